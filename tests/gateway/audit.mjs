// node audit.mjs URL: the audits of graphql-http against a server. Prints those that don't pass; exits with 1 if there
// are any.
import { auditServer } from 'graphql-http';

const results = await auditServer({ url: process.argv[2], fetchFn: fetch });
const bad = results.filter((result) => result.status !== 'ok');
for (const { id, name, status, reason } of bad) console.log(`${status} ${id} ${name}: ${reason}`);
console.log(`${results.length - bad.length} of ${results.length}`);
process.exit(bad.length ? 1 : 0);
