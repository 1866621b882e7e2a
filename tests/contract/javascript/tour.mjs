// The stock JavaScript client's tour as a customer who signs up: see `tours.py`, whose facts it finds.
// Arguments: url, anonKey, serviceKey, foreignTicket, foreignProfile. Prints one JSON object.
import { randomUUID } from "node:crypto";

import { createClient } from "@supabase/supabase-js";
import WebSocket from "ws";

const [url, anonKey, serviceKey, foreignTicket, foreignProfile] = process.argv.slice(2);
const connect = (key) => createClient(url, key, { realtime: { transport: WebSocket } });
const customer = connect(anonKey);
const stranger = connect(anonKey);
const service = connect(serviceKey);
const [email, password] = [`${randomUUID()}@example.test`, randomUUID()];

function good({ data, error }) {
  if (error) throw error;
  return data;
}

// A callback and the promise of what it gets first.
function once() {
  let got;
  const first = new Promise((resolve) => (got = resolve));
  return [got, first];
}

const join = (channel) =>
  new Promise((resolve) =>
    channel.subscribe((status, error) => {
      if (status !== "CLOSED") resolve(error ? error.message : status);
    }),
  );

// 1. Sign up, sign in, refresh.
const { user } = good(
  await customer.auth.signUp({ email, password, options: { data: { full_name: "Ada" } } }),
);
good(await service.auth.admin.updateUserById(user.id, { email_confirm: true })); // where none is automatic
good(await customer.auth.signOut().then(({ error }) => ({ error })));
const signedIn = good(await customer.auth.signInWithPassword({ email, password }));
const refreshed = good(await customer.auth.refreshSession());
await customer.realtime.setAuth();

// 2. Functions; reads and writes under row level security.
const profile = good(await customer.rpc("get_my_profile_id"));
const role = good(await customer.rpc("get_my_role"));
const tickets = () => customer.from("tickets");
const ticket = good(await tickets().insert({ title: "Mine", customer_id: profile }).select().single());
const forged = await tickets().insert({ title: "Theirs", customer_id: foreignProfile });
const read = good(await tickets().select("title").in("id", [ticket.id, foreignTicket]));
const foreignWrite = good(await tickets().update({ title: "Taken" }).eq("id", foreignTicket).select());

// 3. Upsert, of oneself and of the service; embedding.
const note = { id: randomUUID(), ticket_id: ticket.id, body: "First" };
const upserted = [];
for (const [client, body, ignoreDuplicates] of [
  [customer, "First", true],
  [customer, "Ignored", true],
  [service, "Second", false],
]) {
  good(await client.from("ticket_notes").upsert({ ...note, body }, { ignoreDuplicates }));
  upserted.push(good(await client.from("ticket_notes").select("body").eq("id", note.id).single()).body);
}
const embedded = good(
  await tickets().select("title, customer:profiles!tickets_customer_id_fkey(full_name), ticket_notes(body)").eq("id", ticket.id),
);

// 4. Changes.
const [live, isLive] = once();
const [changed, change] = once();
customer
  .channel(`changes-${user.id}`)
  .on("system", {}, (payload) => payload.extension === "postgres_changes" && live(payload.status))
  .on("postgres_changes", { event: "UPDATE", schema: "public", table: "tickets", filter: `id=eq.${ticket.id}` }, changed)
  .subscribe();
const subscribed = await isLive;
good(await service.from("tickets").update({ title: "Foreign" }).eq("id", foreignTicket));
good(await tickets().update({ title: "Mine, changed" }).eq("id", ticket.id));
const { eventType, new: row } = await change;

// 5. Broadcast and presence.
const room = `room-${user.id}`;
const [heard, message] = once();
const [came, arrival] = once();
const [went, departure] = once();
const mine = customer.channel(room, { config: { broadcast: { ack: true }, presence: { key: "ada" } } });
const theirs = stranger
  .channel(room, { config: { presence: { key: "bob" } } })
  .on("broadcast", { event: "cursor" }, heard)
  .on("presence", { event: "join" }, ({ key, newPresences }) => came([key, newPresences[0].name]))
  .on("presence", { event: "leave" }, ({ key }) => went(key));
const joined = [await join(mine), await join(theirs)];
const sent = await mine.send({ type: "broadcast", event: "cursor", payload: { x: 1.5 } });
const { payload } = await message;
await mine.track({ name: "Ada" });
const arrived = await arrival;
const present = Object.keys(theirs.presenceState());
await mine.untrack();
const left = await departure;

// 6. Private channels: one's own, and another's.
const own = await join(customer.channel(`tickets:person:${profile}`, { config: { private: true } }));
const foreign = await join(customer.channel(`tickets:person:${foreignProfile}`, { config: { private: true } }));

await Promise.all([customer, stranger].map((client) => client.removeAllChannels()));
const signedOut = (await customer.auth.signOut()).error === null && (await customer.auth.getSession()).data.session;
console.log(
  JSON.stringify({
    signed_in: signedIn.user.id === user.id,
    refreshed: refreshed.session.refresh_token !== signedIn.session.refresh_token,
    role,
    written: [ticket.title, ticket.customer_id === profile],
    forged: forged.error.code,
    read: read.map((each) => each.title),
    foreign_write: foreignWrite,
    upserted,
    embedded,
    subscribed,
    change: [eventType, row.title],
    joined,
    broadcast: [sent, payload],
    presence: [arrived, present, left],
    private: [own, foreign.includes("Unauthorized")],
    signed_out: signedOut,
  }),
);
process.exit(0);
