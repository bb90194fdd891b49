// node clients.mjs HTTP_URL WS_URL TOKEN: the clients of graphql-ws and graphql-sse, and the codes of the protocol, against
// a server with the sample catalogue. Exits with 1 and a reason if anything is not as it should be.
import assert from 'node:assert/strict';
import { createClient as createSse } from 'graphql-sse';
import { createClient as createWs } from 'graphql-ws';
import WebSocket from 'ws';

const [url, wsUrl, token] = process.argv.slice(2);
const authorization = `Bearer ${token}`;

/// What a socket is closed with after these messages; null stands for waiting for the next message from the server.
const closedWith = (messages, protocol = 'graphql-transport-ws') =>
  new Promise((resolve, reject) => {
    const socket = new WebSocket(wsUrl, protocol);
    const rest = [...messages];
    const go = () => {
      while (rest.length && rest[0] !== null) socket.send(typeof rest[0] === 'string' ? rest.shift() : JSON.stringify(rest.shift()));
      rest.shift();
    };
    socket.on('open', go);
    socket.on('message', go);
    socket.on('close', (code) => resolve(code));
    socket.on('error', reject);
    setTimeout(() => reject(new Error(`not closed after ${JSON.stringify(messages)}`)), 20_000).unref();
  });

const init = { type: 'connection_init' };
const follow = (id) => ({ id, type: 'subscribe', payload: { query: 'subscription { images(initial: false) { kind } }' } });
// Side by side: one of them is a silence of ten seconds.
const codes = Promise.all(
  [
    [['{'], 4400],
    [[{ type: 'nosuch' }], 4400],
    [[init, null, { id: '1', type: 'subscribe', payload: {} }], 4400],
    [[follow('1')], 4401],
    [[{ ...init, payload: { authorization: 'Bearer nobody' } }], 4403],
    [[], 4408],
    [[init, init], 4429],
    [[init, null, follow('1'), follow('1')], 4409],
  ].map(async ([messages, code]) => assert.equal(await closedWith(messages), code, JSON.stringify(messages))),
);

const viewer = '{ viewer { name } }';
const client = createWs({ url: wsUrl, webSocketImpl: WebSocket, connectionParams: { authorization }, lazy: true });
const once = (query) =>
  new Promise((resolve, reject) => {
    let last;
    client.subscribe({ query }, { next: (value) => (last = value), error: reject, complete: () => resolve(last) });
  });
const name = (await once(viewer)).data.viewer.name;
assert.ok(name);
await assert.rejects(once('{ nosuch }'), (errors) => errors[0].extensions.code === 'INVALID');

// What one client writes, another one is told of, over both transports, and each goes on where it was.
const publish = async (image) => {
  const query = `mutation { applyImages(images: [{ name: "${image}", description: "x" }]) { revision results { outcome } } }`;
  return (await once(query)).data.applyImages;
};
// Whoever makes an organization becomes its manager: streams from before that begin anew, for there is more to see.
assert.equal((await publish('clients/first:0')).results[0].outcome, 'CREATED');
const sse = createSse({ url, headers: { authorization }, retryAttempts: 0 });
const query = 'subscription { images(initial: false) { kind revision id } }';
for (const [kind, iterate] of [['ws', (q) => client.iterate({ query: q })], ['sse', (q) => sse.iterate({ query: q })]]) {
  const events = iterate(query);
  // First it says where it is: it has begun.
  assert.equal((await events.next()).value.data.images.kind, 'SYNC');
  await publish(`clients/${kind}:first`);
  const at = (await events.next()).value.data.images;
  assert.equal(at.kind, 'PUT');
  await events.return();
  const missed = await publish(`clients/${kind}:missed`);
  assert.equal(missed.results[0].outcome, 'CREATED');
  const again = iterate(query.replace('initial: false', `since: "${at.revision}"`));
  for (;;) {
    const { value } = await again.next();
    if (value.data.images.id === `Image:clients/${kind}:missed`) break;
  }
  await again.return();
  console.log(kind);
}
await codes;
console.log('codes');
await client.dispose();
sse.dispose();
process.exit(0);
