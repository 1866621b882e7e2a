// The stock JavaScript client against the gateway: broadcasts, presence, a private channel, a replay.
// Arguments: url, anonKey, publishableKey, email, password, room, privateTopic, foreignTopic.
// Prints one JSON line per fact; "private ready" asks for a broadcast from the database.
import { createClient } from "@supabase/supabase-js";
import WebSocket from "ws";

const [url, anonKey, publishableKey, email, password, room, privateTopic, foreignTopic] =
  process.argv.slice(2);
const say = (kind, facts = {}) => console.log(JSON.stringify({ kind, ...facts }));
const connect = (key) => createClient(url, key, { realtime: { transport: WebSocket } });

// A queue of what callbacks got.
const inbox = () => {
  const items = [];
  const waiting = [];
  return {
    put: (item) => (waiting.length ? waiting.shift()(item) : items.push(item)),
    get: () => (items.length ? items.shift() : new Promise((resolve) => waiting.push(resolve))),
  };
};

const join = (channel) =>
  new Promise((resolve) => {
    channel.subscribe((status, error) => {
      if (status !== "CLOSED") resolve({ status, error: error?.message ?? null });
    });
  });

const ada = connect(anonKey);
const bob = connect(publishableKey);
const signIn = await ada.auth.signInWithPassword({ email, password });
if (signIn.error) throw signIn.error;
await ada.realtime.setAuth();

// 1. Broadcast: text, bytes, HTTP.
const heard = inbox();
const presences = inbox();
const config = (key) => ({ config: { broadcast: { ack: true }, presence: { key } } });
const adas = ada.channel(room, config("ada"));
const bobs = bob
  .channel(room, config("bob"))
  .on("broadcast", { event: "*" }, heard.put)
  .on("presence", { event: "join" }, ({ key, newPresences }) =>
    presences.put({ joined: key, names: newPresences.map((each) => each.name) }),
  )
  .on("presence", { event: "leave" }, ({ key }) => presences.put({ left: key }));
say("joined", { ada: await join(adas), bob: await join(bobs) });

const sent = await adas.send({ type: "broadcast", event: "cursor", payload: { x: 1.5 } });
const text = await heard.get();
say("text", { sent, event: text.event, payload: text.payload });

await adas.send({ type: "broadcast", event: "bytes", payload: new Uint8Array([0, 255]).buffer });
const bytes = await heard.get();
say("bytes", { event: bytes.event, payload: [...new Uint8Array(bytes.payload)] });

const posted = await bob.channel(room).httpSend("posted", { y: 2 });
const post = await heard.get();
say("http", { posted, event: post.event, payload: post.payload });

// 2. Presence.
const tracked = await adas.track({ name: "Ada" });
const joined = await presences.get();
const state = Object.fromEntries(
  Object.entries(bobs.presenceState()).map(([key, metas]) => [key, metas.map((meta) => meta.name)]),
);
const untracked = await adas.untrack();
say("presence", { tracked, joined, state, untracked, left: await presences.get() });

// 3. Private channels: one's own, and another's.
const told = inbox();
const mine = ada
  .channel(privateTopic, { config: { private: true } })
  .on("broadcast", { event: "*" }, told.put);
const own = await join(mine);
const foreign = await join(ada.channel(foreignTopic, { config: { private: true } }));
say("private ready", { own, foreign });
const left = await told.get();
say("from the database", { event: left.event, payload: left.payload, id: left.meta.id });

// 4. The same message again, by replay.
await ada.removeChannel(mine);
const replayed = inbox();
const replay = { since: Date.now() - 60_000, limit: 5 };
const again = ada
  .channel(privateTopic, { config: { private: true, broadcast: { replay } } })
  .on("broadcast", { event: "*" }, replayed.put);
await join(again);
const old = await replayed.get();
say("replayed", { event: old.event, meta: old.meta });

await Promise.all([ada.removeAllChannels(), bob.removeAllChannels()]);
process.exit(0);
