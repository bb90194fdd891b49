// node spectral.mjs DOCUMENT: Spectral with its own rules for OpenAPI and those of the OWASP API Security Top 10. Prints what
// it finds; exits with 1 if there is an error or a warning.
import { readFile } from 'node:fs/promises';
import { Document, Ruleset, Spectral } from '@stoplight/spectral-core';
import owasp from '@stoplight/spectral-owasp-ruleset';
import parsers from '@stoplight/spectral-parsers';
import rulesets from '@stoplight/spectral-rulesets';

const SEVERITIES = ['error', 'warning', 'information', 'hint'];
const RULES = {
  // Descriptions, documentation, commands and the like are any text: their length is bounded, and no pattern fits them.
  'owasp:api4:2023-string-restricted': 'off',
};

const path = process.argv[2];
const spectral = new Spectral();
spectral.setRuleset(new Ruleset({ extends: [[rulesets.oas, 'recommended'], [owasp.default ?? owasp, 'all']], rules: RULES }));
const results = await spectral.run(new Document(await readFile(path, 'utf8'), parsers.Json, path));
for (const { severity, code, path: at, message } of results) {
  console.log(`${SEVERITIES[severity]} ${code} ${at.join('/')}: ${message}`);
}
const of = (severity) => results.filter((result) => result.severity === severity).length;
console.log(`${of(0)} errors, ${of(1)} warnings`);
process.exit(of(0) + of(1) ? 1 : 0);
