// The stock JavaScript client against the gateway: sign-in, a read under RLS, a change by Realtime.
// Arguments: url, anonKey, email, password. Prints one JSON line per fact; "ready" asks for the change.
import { createClient } from "@supabase/supabase-js";
import WebSocket from "ws";

const [url, anonKey, email, password] = process.argv.slice(2);
const say = (kind, facts = {}) => console.log(JSON.stringify({ kind, ...facts }));
const supabase = createClient(url, anonKey, { realtime: { transport: WebSocket } });

const signIn = await supabase.auth.signInWithPassword({ email, password });
if (signIn.error) throw signIn.error;
say("signed in", { role: signIn.data.user.app_metadata.role });

const read = await supabase.from("tickets").select("number").order("number");
if (read.error) throw read.error;
say("tickets", { numbers: read.data.map((row) => row.number) });

await new Promise((resolve, reject) => {
  supabase
    .channel("from-javascript")
    .on("system", {}, (payload) => {
      if (payload.extension === "postgres_changes" && payload.status === "ok") say("ready");
    })
    .on("postgres_changes", { event: "*", schema: "public", table: "tickets" }, (payload) => {
      say("change", { event: payload.eventType, number: payload.new.number, title: payload.new.title });
      resolve();
    })
    .subscribe((status, error) => {
      if (status === "CHANNEL_ERROR" || status === "TIMED_OUT") reject(error ?? new Error(status));
    });
});

await supabase.removeAllChannels();
const signOut = await supabase.auth.signOut();
if (signOut.error) throw signOut.error;
say("signed out");
process.exit(0);
