// Starts GraphiQL on this server. A subscription is read as server-sent events; the token, if there is one, is typed
// into the headers pane as {"Authorization": "Bearer ..."}.
(function () {
  'use strict';
  async function* events(response) {
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      for (let end; (end = text.indexOf('\n\n')) >= 0; text = text.slice(end + 2)) {
        const event = text.slice(0, end);
        if (event.startsWith('event: complete')) return;
        const data = event.indexOf('\ndata: ');
        if (data >= 0) yield JSON.parse(event.slice(data + 7));
      }
    }
  }
  async function fetcher(params, options) {
    const follow = /^\s*subscription\b/m.test(params.query || '');
    const response = await fetch('/graphql', {
      method: 'POST',
      credentials: 'omit',
      headers: Object.assign(
        { Accept: follow ? 'text/event-stream' : 'application/json', 'Content-Type': 'application/json' },
        (options && options.headers) || {},
      ),
      body: JSON.stringify(params),
    });
    const type = response.headers.get('content-type') || '';
    return type.startsWith('text/event-stream') ? events(response) : response.json();
  }
  ReactDOM.createRoot(document.getElementById('page')).render(
    React.createElement(GraphiQL, {
      fetcher: fetcher,
      isHeadersEditorEnabled: true,
      shouldPersistHeaders: false,
      defaultQuery:
        '# The store: the most downloaded repositories, with what there is to choose from.\n' +
        '{\n  repositories(first: 10, orderBy: { field: DOWNLOADS, descending: true }) {\n    totalCount\n' +
        '    nodes { name downloadCount latestImage { tag description iconUrl } }\n' +
        '    facets { keywords { value count } }\n  }\n}\n',
    }),
  );
})();
