// The stock JavaScript client's ways to sign in, walked through at a local stack.
// Arguments: URL, anon key, service key. Prints one JSON object; exits with 1 at the first surprise.

import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";

import { createClient } from "@supabase/supabase-js";
import WebSocket from "ws";

const [url, anonKey, serviceKey] = process.argv.slice(2);
const home = "http://127.0.0.1:3000/home";

function client(key, auth = {}) {
  const stored = new Map();
  return createClient(url, key, {
    auth: {
      autoRefreshToken: false,
      detectSessionInUrl: false,
      storage: {
        getItem: (name) => stored.get(name) ?? null,
        setItem: (name, value) => void stored.set(name, value),
        removeItem: (name) => void stored.delete(name),
      },
      ...auth,
    },
    realtime: { transport: WebSocket },
  });
}

function good({ data, error }) {
  assert.equal(error, null, error?.message);
  return data;
}

async function mail(to) {
  const response = await fetch(`${url}/_local/mailbox?to=${encodeURIComponent(to)}`, {
    headers: { apikey: serviceKey },
  });
  return (await response.json()).messages.at(-1);
}

function totp(secret) {
  const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
  const bits = [...secret].map((char) => alphabet.indexOf(char).toString(2).padStart(5, "0")).join("");
  const key = Buffer.from(bits.match(/.{8}/g).map((byte) => parseInt(byte, 2)));
  const counter = Buffer.alloc(8);
  counter.writeBigUInt64BE(BigInt(Math.floor(Date.now() / 30_000)));
  const mac = createHmac("sha1", key).update(counter).digest();
  const offset = mac.at(-1) & 15;
  return String((mac.readUInt32BE(offset) & 0x7fffffff) % 1_000_000).padStart(6, "0");
}

const facts = {};
const email = () => `${randomUUID()}@example.test`;

{
  const [supabase, address] = [client(anonKey), email()];
  good(await supabase.auth.signInWithOtp({ email: address }));
  const wrong = await supabase.auth.verifyOtp({ type: "email", email: address, token: "1" });
  facts.wrongCode = [wrong.error.status, wrong.error.code];
  const { user } = good(
    await supabase.auth.verifyOtp({ type: "email", email: address, token: (await mail(address)).code }),
  );
  facts.otp = user.email === address;
}
{
  const [supabase, phone] = [client(anonKey), `+4915${Math.floor(1e9 + Math.random() * 9e9)}`];
  good(await supabase.auth.signInWithOtp({ phone }));
  const { user } = good(
    await supabase.auth.verifyOtp({ type: "sms", phone, token: (await mail(phone)).code }),
  );
  facts.sms = `+${user.phone}` === phone;
}
{
  const [supabase, address] = [client(anonKey, { flowType: "pkce" }), email()];
  good(await supabase.auth.signInWithOtp({ email: address, options: { emailRedirectTo: home } }));
  const clicked = await fetch((await mail(address)).link, { redirect: "manual" });
  const code = new URL(clicked.headers.get("location")).searchParams.get("code");
  facts.pkce = good(await supabase.auth.exchangeCodeForSession(code)).user.email === address;
}
{
  const [supabase, address] = [client(anonKey, { flowType: "pkce" }), email()];
  let { url: next } = good(
    await supabase.auth.signInWithOAuth({
      provider: "github",
      options: { redirectTo: home, queryParams: { login_hint: address }, skipBrowserRedirect: true },
    }),
  );
  while (!next.startsWith(home)) {
    const response = await fetch(next, { redirect: "manual" });
    next = new URL(response.headers.get("location"), next).href;
  }
  const { session } = good(
    await supabase.auth.exchangeCodeForSession(new URL(next).searchParams.get("code")),
  );
  facts.oauth = [
    session.user.email === address,
    session.user.app_metadata.provider,
    typeof session.provider_token,
  ];
}
{
  const [supabase, address] = [client(anonKey), email()];
  good(await supabase.auth.signUp({ email: address, password: "correct horse" }));
  const factor = good(await supabase.auth.mfa.enroll({ factorType: "totp", friendlyName: "phone" }));
  facts.qr = factor.totp.qr_code.startsWith("data:image/svg+xml;utf-8,<svg");
  good(await supabase.auth.mfa.challengeAndVerify({ factorId: factor.id, code: totp(factor.totp.secret) }));
  const level = good(await supabase.auth.mfa.getAuthenticatorAssuranceLevel());
  facts.aal = [
    level.currentLevel,
    level.nextLevel,
    level.currentAuthenticationMethods.map((entry) => entry.method),
  ];
  facts.factors = good(await supabase.auth.mfa.listFactors()).totp.length;
  good(await supabase.auth.mfa.unenroll({ factorId: factor.id }));
}
{
  const supabase = client(anonKey);
  const { user } = good(await supabase.auth.signInAnonymously());
  facts.anonymous = user.is_anonymous;
}
{
  const [admin, address] = [client(serviceKey).auth.admin, email()];
  const invited = good(await admin.inviteUserByEmail(address));
  const link = good(await admin.generateLink({ type: "invite", email: address }));
  facts.invited = [invited.user.id === link.user.id, link.properties.verification_type];
  const supabase = client(anonKey);
  good(await supabase.auth.verifyOtp({ type: "invite", token_hash: link.properties.hashed_token }));
  facts.reset = good(await supabase.auth.resetPasswordForEmail(address)) !== null;
  facts.recovery = (await mail(address)).kind;
}
console.log(JSON.stringify(facts));
process.exit(0);
