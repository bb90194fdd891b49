// node typed-rest.js URL TOKEN: a client that openapi-typescript and openapi-fetch make of openapi/imagehub.json, against a
// server; URL ends in /api/v1. The compiler refuses what the document doesn't have; what comes back is as the types say.
// Exits with 1 and a reason if it isn't.
import assert from 'node:assert/strict';
import createClient from 'openapi-fetch';
import type { components, paths } from './imagehub.js';

type Problem = components['schemas']['Problem'];
// Not what is followed: GETs answer with events where these are asked for.
type Media = 'application/json' | 'application/problem+json';

const [baseUrl, token] = process.argv.slice(2) as [string, string];
const client = createClient<paths, Media>({ baseUrl, headers: { authorization: `Bearer ${token}` } });
const nobody = createClient<paths, Media>({ baseUrl });

/// What was answered, if it was well. What is too long for HTTP is refused without a problem.
function ok<T>({ data, error, response }: { data?: T; error?: Problem | undefined; response: Response }): T {
  assert.ok(data !== undefined, `${response.status} ${error?.detail}`);
  return data;
}

/// The problem, if it was not.
function refused({ error, response }: { error?: Problem; response: Response }): [number, Problem['code']] {
  assert.ok(error, `${response.status}`);
  assert.equal(error.status, response.status);
  return [response.status, error.code];
}

assert.equal(ok(await nobody.GET('/whoami')).anonymous, true);
const { name: me, canCreateOrganizations } = ok(await client.GET('/whoami'));
assert.ok(me && canCreateOrganizations);

// One image, made, read, changed at what was read, and not at what was before.
const path = { org: 'rest', repo: 'app', tag: '1.0' };
const made = await client.PUT('/images/{org}/{repo}/{tag}', {
  params: { path },
  body: { type: 'CLUSTER_IMAGE', keywords: ['Storage'], size: 5_000_000_000, createdAt: '2024-05-01T12:00:00Z', docs: '# App' },
});
assert.equal(made.response.status, 201);
assert.equal(ok(made).name, 'rest/app:1.0');
const read = await nobody.GET('/images/{org}/{repo}/{tag}', { params: { path } });
const image = ok(read);
assert.deepEqual([image.size, image.createdAt, image.docs], [5_000_000_000, '2024-05-01T12:00:00Z', '# App']);
const etag = read.response.headers.get('etag');
assert.ok(etag);
const patched = await client.PATCH('/images/{org}/{repo}/{tag}', {
  params: { path, header: { 'If-Match': etag } },
  body: { description: 'an app', size: null },
  headers: { 'content-type': 'application/merge-patch+json' },
});
assert.deepEqual([ok(patched).description, ok(patched).size, ok(patched).docs], ['an app', null, '# App']);
const stale = { params: { path, header: { 'If-Match': etag } }, body: {} };
assert.deepEqual(refused(await client.PUT('/images/{org}/{repo}/{tag}', stale)), [412, 'CONFLICT']);
assert.deepEqual(refused(await nobody.PUT('/images/{org}/{repo}/{tag}', { params: { path }, body: {} })), [401, 'UNAUTHENTICATED']);
const docs = await nobody.GET('/images/{org}/{repo}/{tag}/docs', { params: { path }, parseAs: 'text' });
assert.equal(ok(docs), '# App');

// Many.
const applied = await client.POST('/images', { body: [{ name: 'rest/app:2.0' }, { name: 'rest/app:2+0' }] });
const [first, second] = ok(applied).results;
assert.deepEqual([first?.outcome, second?.outcome], ['CREATED', 'REFUSED']);
assert.equal(second?.errors[0]?.pointer, '/name');

// Lists, with a filter, facets and pages; typed what may stand in a query.
const query = { organization: ['rest'], facets: ['type' as const], sort: '-updated' as const };
const repositories = ok(await nobody.GET('/repositories', { params: { query } }));
assert.deepEqual([repositories.total, repositories.items[0]?.name, repositories.next], [1, 'rest/app', null]);
assert.equal(repositories.facets?.type?.[0]?.count, 1);
const tags: string[] = [];
let cursor: string | null = null;
do {
  const tagged: components['schemas']['ImagePage'] = ok(
    await nobody.GET('/repositories/{org}/{repo}/tags', {
      params: { path: { org: 'rest', repo: 'app' }, query: { limit: 1, ...(cursor === null ? {} : { cursor }) } },
    }),
  );
  tags.push(...tagged.items.map((item) => item.tag));
  cursor = tagged.next;
} while (cursor !== null);
assert.deepEqual(tags.sort(), ['1.0', '2.0']);
const images = ok(await nobody.GET('/images', { params: { query: { repository: ['rest/app'], sort: 'name' } } }));
assert.deepEqual(images.items.map((item) => item.name), ['rest/app:1.0', 'rest/app:2.0']);

const resolved = ok(await nobody.POST('/resolve', { body: { names: ['rest/app:1.0', 'rest/app:3.0'] } }));
assert.deepEqual(resolved.entries.map((entry) => entry.image?.tag), ['1.0', undefined]);
const pack = ok(await client.POST('/datapacks', { body: { names: ['rest/app:1.0'], grain: 'DETAIL', expireTime: '1h' } }));
const kept = ok(await nobody.GET('/datapacks/{name}', { params: { path: { name: pack.name } } }));
assert.equal(kept.entries?.[0]?.image?.docs, '# App');

const deleted = await client.DELETE('/images/{org}/{repo}/{tag}', { params: { path } });
assert.equal(deleted.response.status, 204);
assert.deepEqual(refused(await nobody.GET('/images/{org}/{repo}/{tag}', { params: { path } })), [404, 'NOT_FOUND']);
console.log('rest');
