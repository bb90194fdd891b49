// node browser.mjs PAGES SERVER TOKEN: the pages of web-examples, which are served at PAGES, and the gateway's own, in a
// browser: Chromium without a screen, which npm has with the libraries that it needs. SERVER has the sample catalogue, and
// lets pages of PAGES ask. Exits with 1 and a reason if a page doesn't show what it should, or complains of anything.
import assert from 'node:assert/strict';

// Where Chromium is unpacked to, and its libraries beside it, whatever the system has.
process.env.TMPDIR = process.cwd();
process.env.AWS_LAMBDA_JS_RUNTIME = 'nodejs22.x';
const { default: chromium } = await import('@sparticuz/chromium');
const { default: puppeteer } = await import('puppeteer-core');

const [pages, server, token] = process.argv.slice(2);
const LONGEST = 30_000;

const browser = await puppeteer.launch({
  args: [...chromium.args, '--no-sandbox'],
  executablePath: await chromium.executablePath(),
  headless: 'shell',
});

/// Opens a page, does something with it, and looks whether it complained of anything but `expected`.
async function open(url, use, expected = []) {
  const page = await browser.newPage();
  page.setDefaultTimeout(LONGEST);
  const wrong = [];
  page.on('pageerror', (error) => wrong.push(error.message));
  page.on('console', (message) => message.type() === 'error' && wrong.push(message.text()));
  // Icons are elsewhere; nothing else is.
  await page.setRequestInterception(true);
  page.on('request', (request) => {
    if ([pages, server].some((own) => request.url().startsWith(own)) || request.url().startsWith('data:')) return request.continue();
    if (request.resourceType() !== 'image') wrong.push(`${request.url()} is asked for`);
    return request.respond({ contentType: 'image/svg+xml', body: '<svg xmlns="http://www.w3.org/2000/svg"/>' });
  });
  page.on('requestfailed', (request) => {
    const why = request.failure()?.errorText;
    // What the page itself gave up: an older question, a stream at its end.
    if (why !== 'net::ERR_ABORTED') wrong.push(`${request.url()}: ${why}`);
  });
  await page.goto(url);
  try {
    await use(page);
  } catch (error) {
    const shown = await page.evaluate(() => document.body.innerText);
    throw new Error(`${url}: ${error.message}\ncomplaints: ${wrong.join('; ')}\nit shows: ${shown}`);
  }
  assert.deepEqual(wrong.filter((one) => !expected.some((text) => one.includes(text))), [], url);
  await page.close();
}

/// Waits until an element has this text.
const says = (page, selector, text) =>
  page.waitForFunction((selector, text) => document.querySelector(selector)?.textContent.includes(text), {}, selector, text);

/// Waits until an element has just this text.
const is = (page, selector, text) =>
  page.waitForFunction((selector, text) => document.querySelector(selector)?.textContent === text, {}, selector, text);

/// Clicks what may be made anew at any moment.
const click = (page, selector) => page.$eval(selector, (element) => element.click());

/// Puts an image.
async function publish(name, image) {
  const [repository, tag] = name.split(':');
  const response = await fetch(`${server}/api/v1/images/${repository}/${tag}`, {
    method: 'PUT',
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(image),
  });
  assert.ok(response.ok, await response.text());
}

/// Deletes what has this path.
async function remove(path) {
  const response = await fetch(`${server}/api/v1/${path}`, { method: 'DELETE', headers: { authorization: `Bearer ${token}` } });
  assert.ok(response.ok, await response.text());
}

const at = `server=${encodeURIComponent(server)}`;
try {
  await open(`${pages}/store.html?${at}`, async (page) => {
    await page.waitForFunction(() => document.querySelectorAll('#cards li').length === 12);
    await says(page, '#state', 'current at');
    await page.click('#more');
    await page.waitForFunction(() => document.querySelectorAll('#cards li').length > 12);
    // A search, with a typo.
    await page.type('#text', 'ngnix');
    await says(page, '#cards li:first-child h2', 'labring/nginx');
    await page.$eval('#text', (text) => (text.value = ''));
    await page.type('#text', 'browser');
    await is(page, '#total', '0');
    // What is published meanwhile is there by itself, and what it says is text.
    await publish('web/browser:1.0', { description: '<img src=x onerror="throw 1"> for browsers' });
    await says(page, '#cards li:first-child p', '<img src=x');
    await page.waitForSelector('#facets input');
    await click(page, '#facets input');
    await page.waitForFunction(() => document.querySelector('#facets input').checked);
    await is(page, '#total', '1');
    await click(page, '#cards a');
    await says(page, 'h1', 'web/browser');
  });
  await publish('web/browser:1.1', { description: 'newer', docs: 'new\n' });
  await open(`${pages}/versions.html?${at}&repository=web/browser`, async (page) => {
    await says(page, '#state', '2 versions');
    await click(page, 'tr:nth-child(2) input[name=from]');
    await click(page, 'tr:nth-child(1) input[name=to]');
    await says(page, '#changes', '→ newer');
    await says(page, '#docs', '+new');
    // What was chosen stays chosen, and is compared anew.
    await publish('web/browser:1.1', { description: 'newest', docs: 'new\n' });
    await says(page, '#changes', '→ newest');
    await publish('web/browser:1.2', {});
    await says(page, '#state', '3 versions');
    await remove('repositories/web/browser');
    await is(page, '#state', 'it is gone');
    await is(page, '#changes', '');
  });
  await open(`${pages}/versions.html?${at}&repository=web/none`, async (page) => {
    await says(page, '#state', 'there is no such repository');
  }, ['404 (Not Found)']);
  // The pages that try queries and requests, as they come with the server.
  await open(`${server}/graphql`, async (page) => {
    await page.waitForSelector('.graphiql-execute-button');
    await page.click('.graphiql-query-editor .CodeMirror');
    await page.keyboard.down('Control');
    await page.keyboard.press('KeyA');
    await page.keyboard.up('Control');
    await page.keyboard.type('{ viewer { anonymous');
    await page.click('.graphiql-execute-button');
    await says(page, '.result-window', '"anonymous": true');
  });
  await open(`${server}/docs`, async (page) => {
    await page.waitForFunction(() => document.body.innerText.includes('/api/v1/repositories/{org}/{repo}'));
  });
} finally {
  await browser.close();
}
console.log('browser');
