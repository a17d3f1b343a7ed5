// Server-sent events by fetch, since an EventSource cannot carry a token. Reconnects by itself for ever.

const FIRST_PAUSE = 1000;
const LONGEST_PAUSE = 15000;
// The server says something every ten seconds.
const SILENCE = 25000;

let token = null;
try { token = sessionStorage.getItem("token"); } catch { /* It is asked for again. */ }

export function rememberToken(said) {
  token = said;
  try {
    if (said) sessionStorage.setItem("token", said);
    else sessionStorage.removeItem("token");
  } catch { /* It holds for this page alone. */ }
}

export const hasToken = () => Boolean(token);

// Asks with the token. One that is refused is forgotten, unless another was given meanwhile.
export async function ask(address, options = {}) {
  const used = token;
  // A header carries no other characters: a token with such is as wrong as any.
  const headers = used && /^[ -~]+$/.test(used) ? { Authorization: `Bearer ${used}` } : {};
  const answer = await fetch(address, { ...options, cache: "no-store", headers });
  if (answer.status === 401 && token === used) rememberToken(null);
  return answer;
}

// Calls `told.page` with every message, `told.away(seconds)` when the connection is lost and tried again after so many
// seconds, and waits for `told.token()` where the server wants a token: until there is one.
export async function listen(told) {
  let pause = FIRST_PAUSE;
  for (;;) {
    try {
      await once((page) => {
        pause = FIRST_PAUSE;
        told.page(page);
      });
    } catch (error) {
      if (error instanceof TokenWanted) {
        await told.token();
        continue;
      }
    }
    told.away(pause / 1000);
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }
}

class TokenWanted extends Error {}

async function once(take) {
  const stop = new AbortController();
  let timer = setTimeout(() => stop.abort(), SILENCE);
  try {
    const answer = await ask("/api/events", { signal: stop.signal });
    if (answer.status === 401) throw new TokenWanted();
    if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => stop.abort(), SILENCE);
      const messages = (text + value).split("\n\n");
      text = messages.pop();
      for (const message of messages) {
        const lines = message.split("\n").filter((line) => line.startsWith("data:"));
        if (lines.length > 0) take(JSON.parse(lines.map((line) => line.slice(5)).join("\n")));
      }
    }
  } finally {
    clearTimeout(timer);
    stop.abort();
  }
}
