// node typed-graphql.js URL TOKEN: queries and mutations whose types gql.tada reads from schema/imagehub.graphql, against a
// server. The compiler refuses what the schema doesn't have; what comes back is as the types say. Exits with 1 and a reason
// if it isn't.
import assert from 'node:assert/strict';
import { print } from 'graphql';
import { type FragmentOf, initGraphQLTada, readFragment, type ResultOf, type TadaDocumentNode } from 'gql.tada';
import type { introspection } from './graphql-env.js';

const [url, token] = process.argv.slice(2) as [string, string];

const graphql = initGraphQLTada<{
  introspection: introspection;
  scalars: { DateTime: string; ImageName: string; Int53: number; RepositoryName: string; Revision: string; URL: string };
}>();

async function ask<Result, Variables>(document: TadaDocumentNode<Result, Variables>, variables: Variables): Promise<Result> {
  const response = await fetch(url, {
    method: 'POST',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify({ query: print(document), variables }),
  });
  const answer = (await response.json()) as { data?: Result; errors?: { message: string }[] };
  assert.equal(answer.errors, undefined, JSON.stringify(answer.errors));
  assert.ok(answer.data);
  return answer.data;
}

const card = graphql(`
  fragment Card on Image {
    name
    tag
    type
    keywords
    size
    iconUrl
    createdAt
  }
`);
const apply = graphql(
  `
    mutation Apply($images: [ImageInput!]!) {
      applyImages(images: $images) {
        revision
        results {
          outcome
          image {
            ...Card
          }
          userErrors {
            code
            message
            path
          }
        }
      }
    }
  `,
  [card],
);
const store = graphql(
  `
    query Store($query: String, $first: Int!) {
      viewer {
        name
        canCreateOrganizations
      }
      repositories(query: $query, first: $first) {
        totalCount
        nodes {
          name
          isPrivate
          downloadCount
          latestImage {
            ...Card
          }
        }
        facets {
          types {
            value
            count
          }
        }
      }
      node(id: "Organization:typed") {
        __typename
        ... on Organization {
          managers
        }
      }
    }
  `,
  [card],
);

const images = [
  { name: 'typed/app:1.0', type: 'CLUSTER_IMAGE' as const, keywords: ['Storage'], size: 5_000_000_000, createdAt: '2024-05-01T12:00:00Z' },
  { name: 'typed/app:1+0' },
];
const { applyImages } = await ask(apply, { images });
const [made, refused] = applyImages.results;
assert.equal(made?.outcome, 'CREATED');
assert.equal(refused?.outcome, 'REFUSED');
assert.equal(refused.userErrors[0]?.code, 'INVALID');

const shown = (of: FragmentOf<typeof card> | null | undefined): ResultOf<typeof card> => {
  assert.ok(of);
  return readFragment(card, of);
};
const { name, size, createdAt } = shown(made.image);
assert.deepEqual([name, size, createdAt], ['typed/app:1.0', 5_000_000_000, '2024-05-01T12:00:00Z']);

const { viewer, repositories, node } = await ask(store, { query: null, first: 100 });
assert.equal(viewer.canCreateOrganizations, true);
const repository = repositories.nodes.find((one) => one.name === 'typed/app');
assert.ok(repository && !repository.isPrivate && repository.downloadCount === 0);
assert.deepEqual(shown(repository.latestImage).keywords, ['Storage']);
assert.ok(repositories.facets.types.some((facet) => facet.value === 'CLUSTER_IMAGE' && facet.count > 0));
assert.ok(node?.__typename === 'Organization' && node.managers.includes(viewer.name ?? ''));
console.log('graphql');
