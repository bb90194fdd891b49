// node follow.mjs ws|sse URL TOKEN: follows all images of the organization `follow` with the client of graphql-ws or of
// graphql-sse, over any number of restarts of the server. Prints the id of each change once it is told of it, as a line;
// ends after the change of an image with the tag `end`.
//
// It goes on at the last revision that it was told of. Where the server no longer has what happened since, it begins
// anew, and leaves out what it has seen: that is how a frontend does it.
import { createClient as createSse } from 'graphql-sse';
import { createClient as createWs } from 'graphql-ws';
import WebSocket from 'ws';

const [sort, url, token] = process.argv.slice(2);
const authorization = `Bearer ${token}`;
const FIELDS = 'kind revision id node { version }';
const PAUSE = 50;

// Neither client tries again by itself: it would ask the old question.
const connect = () =>
  sort === 'ws'
    ? createWs({ url, webSocketImpl: WebSocket, connectionParams: { authorization }, retryAttempts: 0 })
    : createSse({ url, headers: { authorization }, retryAttempts: 0 });

const expired = (errors) => Array.isArray(errors) && errors.some((error) => error.extensions?.code === 'REVISION_EXPIRED');
const seen = new Map();
let since = null;

/// Follows until it breaks off; true once the end was told.
const follow = async () => {
  const client = connect();
  const at = since === null ? 'initial: true' : `since: "${since}"`;
  const query = `subscription { images(filter: { organizations: ["follow"] }, ${at}) { ${FIELDS} } }`;
  try {
    for await (const { data, errors } of client.iterate({ query })) {
      if (errors) throw errors;
      const { kind, revision, id, node } = data.images;
      if (kind === 'SYNC') {
        if (since === null) console.log('ready');
      } else if (seen.get(id) !== node?.version) {
        seen.set(id, node?.version);
        console.log(id);
        if (id.endsWith(':end')) return true;
      }
      // What was there at the start comes in no order of its own: only its end is a place to go on at.
      if (kind === 'SYNC' || since !== null) since = revision;
    }
  } finally {
    client.dispose();
  }
  return false;
};

for (;;) {
  try {
    if (await follow()) break;
  } catch (error) {
    if (expired(error)) since = null;
    else if (Array.isArray(error)) throw new Error(JSON.stringify(error));
  }
  await new Promise((resolve) => setTimeout(resolve, PAUSE));
}
process.exit(0);
