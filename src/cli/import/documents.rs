//! Cuts a stream of manifests into documents without reading them: YAML at its markers, JSON where its braces close,
//! a JSON list into its items. What is no document is one that can't be parsed, and the next one goes on.

use std::io::{self, BufRead};

/// The largest document that is read, in bytes: many times the largest object, so that a YAML list of some fits.
pub(super) const DOCUMENT_LIMIT: usize = 16 * 1024 * 1024;
/// The byte order mark, which Windows editors put before UTF-8.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// How the text of a document is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Yaml,
    Json,
}

/// One document, not parsed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Document {
    pub text: Vec<u8>,
    pub format: Format,
    /// Which it is in its file, from 1. The items of a JSON list count one by one.
    pub number: u64,
    /// The line of the file that it begins on, from 1.
    pub line: u64,
    /// Why it isn't to be parsed.
    pub fault: Option<String>,
}

/// The documents of one file.
#[expect(clippy::struct_excessive_bools, reason = "each is about something else, and any of them may go together")]
pub(super) struct Documents<R> {
    input: R,
    number: u64,
    /// The line of the next byte.
    line: u64,
    begun: bool,
    /// The document before was JSON, and no marker came since: what follows is JSON, too.
    json: bool,
    /// Inside the items of a JSON list.
    items: bool,
    /// A line that was read and is for the next document.
    held: Option<Vec<u8>>,
    failed: bool,
}

impl<R: BufRead> Documents<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, number: 0, line: 1, begun: false, json: false, items: false, held: None, failed: false }
    }

    fn document(&mut self, text: Vec<u8>, format: Format, line: u64, fault: Option<&str>) -> Step {
        self.number += 1;
        Step::Document(Document { text, format, number: self.number, line, fault: fault.map(str::to_owned) })
    }

    fn next_document(&mut self) -> io::Result<Option<Document>> {
        loop {
            match self.step()? {
                Step::Document(document) => return Ok(Some(document)),
                Step::Nothing => {}
                Step::End => return Ok(None),
            }
        }
    }

    fn step(&mut self) -> io::Result<Step> {
        if !std::mem::replace(&mut self.begun, true) && self.input.fill_buf()?.starts_with(BOM) {
            self.input.consume(BOM.len());
        }
        if self.items {
            return self.next_item();
        }
        if self.held.is_none() {
            self.skip_space()?;
            match self.input.fill_buf()?.first() {
                None => return Ok(Step::End),
                Some(b'{') => return self.json_document(),
                Some(_) if self.json => return self.after_json(),
                Some(_) => {}
            }
        }
        self.yaml_document()
    }

    /// Skips white space that makes no difference: whole empty lines, and what follows JSON.
    fn skip_space(&mut self) -> io::Result<()> {
        loop {
            let buffer = self.input.fill_buf()?;
            let blank = buffer.iter().take_while(|b| b.is_ascii_whitespace()).count();
            let whole = blank == buffer.len();
            // The indentation of a first line of YAML belongs to it.
            let json = self.json || buffer.get(blank) == Some(&b'{');
            let lines = buffer[..blank].iter().rposition(|b| *b == b'\n').map_or(0, |at| at + 1);
            let skipped = if json || whole { blank } else { lines };
            self.line += line_feeds(&buffer[..skipped]);
            self.input.consume(skipped);
            if !whole || blank == 0 {
                return Ok(());
            }
        }
    }

    /// What follows JSON and is none: a marker, or a line that is no document.
    fn after_json(&mut self) -> io::Result<Step> {
        let line = self.line;
        let (text, _) = self.read_line()?;
        if is_marker(&text) || is_end(&text) {
            self.json = false;
            self.held = is_marker(&text).then_some(text);
            if self.held.is_some() {
                self.line -= 1;
            }
            return Ok(Step::Nothing);
        }
        let why = "it is neither JSON nor, since there is no line --- before it, YAML";
        Ok(self.document(text, Format::Json, line, Some(why)))
    }

    /// One line with its end; false where it is longer than a document may be, and was cut.
    fn read_line(&mut self) -> io::Result<(Vec<u8>, bool)> {
        let mut text = Vec::new();
        let mut whole = true;
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Ok((text, whole));
            }
            let end = buffer.iter().position(|b| *b == b'\n');
            let taken = end.map_or(buffer.len(), |at| at + 1);
            let room = DOCUMENT_LIMIT.saturating_sub(text.len());
            whole &= taken <= room;
            text.extend_from_slice(&buffer[..taken.min(room)]);
            self.input.consume(taken);
            if end.is_some() {
                self.line += 1;
                return Ok((text, whole));
            }
        }
    }

    /// Reads up to the next marker.
    fn yaml_document(&mut self) -> io::Result<Step> {
        self.json = false;
        let mut text = Vec::new();
        let mut begins = None;
        let mut fault = None;
        loop {
            let line = self.line;
            let (mut read, whole) = match self.held.take() {
                Some(held) => {
                    self.line += 1;
                    (held, true)
                }
                None => self.read_line()?,
            };
            if read.is_empty() || is_end(&read) {
                if begins.is_none() {
                    return Ok(if read.is_empty() { Step::End } else { Step::Nothing });
                }
                break;
            }
            if is_marker(&read) && begins.is_some() {
                self.held = Some(read);
                self.line -= 1;
                break;
            }
            if begins.is_none() && has_content(&read) {
                begins = Some(line);
            }
            if begins.is_none() && is_marker(&read) {
                let before = self.line;
                self.skip_space()?;
                if self.input.fill_buf()?.first() == Some(&b'{') {
                    return self.json_document();
                }
                // So that lines can be counted in the text as in the file.
                let skipped = usize::try_from(self.line - before).unwrap_or(DOCUMENT_LIMIT);
                read.resize(read.len() + skipped.min(DOCUMENT_LIMIT), b'\n');
            }
            if !whole || text.len() + read.len() > DOCUMENT_LIMIT {
                fault = Some(too_large());
                text.clear();
            } else if fault.is_none() {
                text.extend_from_slice(&read);
            }
        }
        let begins = begins.unwrap_or(self.line);
        Ok(self.document(text, Format::Yaml, begins, fault.as_deref()))
    }

    /// Reads a JSON object to its closing brace, or up to the items of a list.
    fn json_document(&mut self) -> io::Result<Step> {
        self.json = true;
        let line = self.line;
        let mut cut = Cut::default();
        match self.scan(&mut cut, true)? {
            Ended::Closed => Ok(self.document(cut.text, Format::Json, line, None)),
            Ended::Broken(why) => Ok(self.document(cut.text, Format::Json, line, Some(&why))),
            Ended::Items | Ended::Separator | Ended::End => {
                self.items = true;
                Ok(Step::Nothing)
            }
        }
    }

    /// Reads one item of a list, or what comes after the items.
    fn next_item(&mut self) -> io::Result<Step> {
        let mut cut = Cut::default();
        self.skip_space_of_json()?;
        let line = self.line;
        let ended = self.scan(&mut cut, false)?;
        let blank = cut.text.iter().all(u8::is_ascii_whitespace);
        Ok(match ended {
            Ended::Separator | Ended::Items if blank => Step::Nothing,
            Ended::Closed | Ended::Separator | Ended::Items => self.document(cut.text, Format::Json, line, None),
            Ended::End => {
                self.items = false;
                match self.rest_of_list()? {
                    _ if !blank => self.document(cut.text, Format::Json, line, None),
                    Some(why) => self.document(Vec::new(), Format::Json, line, Some(&why)),
                    None => Step::Nothing,
                }
            }
            Ended::Broken(why) => {
                self.items = false;
                self.document(cut.text, Format::Json, line, Some(&why))
            }
        })
    }

    fn skip_space_of_json(&mut self) -> io::Result<()> {
        let before = std::mem::replace(&mut self.json, true);
        let skipped = self.skip_space();
        self.json = before;
        skipped
    }

    /// Skips what a list has behind its items; says why it isn't whole.
    fn rest_of_list(&mut self) -> io::Result<Option<String>> {
        let mut cut = Cut { depth: 1, ..Cut::default() };
        Ok(match self.scan(&mut cut, false)? {
            Ended::Closed => None,
            Ended::Broken(why) => Some(why),
            _ => Some("the list does not end as one".to_owned()),
        })
    }

    /// Reads to where the braces close. With `list`, the items of a list at the outermost level end it, too.
    fn scan(&mut self, cut: &mut Cut, list: bool) -> io::Result<Ended> {
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                let why = "the file ends before it is complete";
                return Ok(Ended::Broken(why.to_owned()));
            }
            let (used, ended) = cut.take(buffer, list);
            self.line += line_feeds(&buffer[..used]);
            self.input.consume(used);
            if let Some(ended) = ended {
                if matches!(ended, Ended::Broken(_)) {
                    self.skip_to_object()?;
                }
                return Ok(ended);
            }
        }
    }

    /// After what can't be read: to the next line that may begin an object.
    fn skip_to_object(&mut self) -> io::Result<()> {
        loop {
            match self.input.fill_buf()?.first() {
                None | Some(b'{' | b'-') => return Ok(()),
                Some(_) => {
                    self.read_line()?;
                }
            }
        }
    }
}

impl<R: BufRead> Iterator for Documents<R> {
    type Item = io::Result<Document>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        // What came before a read that failed may be half a document: it is not given out.
        let next = self.next_document();
        self.failed = next.is_err();
        next.transpose()
    }
}

/// What came of a look at the input.
enum Step {
    Document(Document),
    /// Something between documents.
    Nothing,
    End,
}

/// How a scan of JSON ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The outermost brace closed.
    Closed,
    /// At the items of a list.
    Items,
    /// A comma between items.
    Separator,
    /// The bracket behind the last item.
    End,
    Broken(String),
}

/// A scan of JSON, over the borders of buffers.
#[derive(Debug, Default)]
struct Cut {
    text: Vec<u8>,
    depth: usize,
    in_string: bool,
    escaped: bool,
    /// The string that was read last at the outermost level, up to a few bytes, and whether a colon followed it.
    key: Vec<u8>,
    colon: bool,
}

impl Cut {
    /// Takes bytes up to where it ends; says how many, and how it ended.
    fn take(&mut self, buffer: &[u8], list: bool) -> (usize, Option<Ended>) {
        const LONGEST_KEY: usize = 8;
        for (at, byte) in buffer.iter().enumerate() {
            let byte = *byte;
            let used = at + 1;
            if self.text.len() >= DOCUMENT_LIMIT {
                self.text.clear();
                return (used, Some(Ended::Broken(too_large())));
            }
            if self.in_string {
                if byte == b'\n' {
                    return (used, Some(Ended::Broken("a text in it does not end on its line".to_owned())));
                }
                self.text.push(byte);
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ if self.depth == 1 && self.key.len() < LONGEST_KEY => self.key.push(byte),
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => {
                    self.in_string = true;
                    if self.depth == 1 {
                        self.key.clear();
                        self.colon = false;
                    }
                }
                b':' if self.depth == 1 => self.colon = true,
                b'[' if list && self.depth == 1 && self.colon && self.key == b"items" => {
                    return (used, Some(Ended::Items));
                }
                b'{' | b'[' => self.depth += 1,
                b',' if self.depth == 0 => return (used, Some(Ended::Separator)),
                b']' if self.depth == 0 => return (used, Some(Ended::End)),
                b'}' if self.depth == 0 => return (used, Some(Ended::Broken("a brace closes nothing".to_owned()))),
                b'}' | b']' => {
                    self.depth -= 1;
                    if self.depth == 0 {
                        self.text.push(byte);
                        return (used, Some(Ended::Closed));
                    }
                }
                b',' if self.depth == 1 => {
                    self.key.clear();
                    self.colon = false;
                }
                _ => {}
            }
            self.text.push(byte);
        }
        (buffer.len(), None)
    }
}

fn too_large() -> String {
    format!("it is larger than {DOCUMENT_LIMIT} bytes; a large list is read as JSON")
}

fn line_feeds(bytes: &[u8]) -> u64 {
    bytes.split(|b| *b == b'\n').count() as u64 - 1
}

/// `---` alone or before white space.
fn is_marker(line: &[u8]) -> bool {
    line.strip_prefix(b"---").is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
}

/// `...` likewise.
fn is_end(line: &[u8]) -> bool {
    line.strip_prefix(b"...").is_some_and(|rest| rest.first().is_none_or(u8::is_ascii_whitespace))
}

/// Whether a line is more than white space, a comment, a directive or a marker without anything behind it.
pub(super) fn has_content(line: &[u8]) -> bool {
    if line.starts_with(b"%") {
        return false;
    }
    let line = if is_marker(line) { &line[3..] } else { line };
    line.iter().find(|b| !b.is_ascii_whitespace()).is_some_and(|first| *first != b'#')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each document as (line, its text without white space around it, or why not).
    fn cut(text: &str) -> Vec<(u64, String)> {
        let all: Vec<_> = cut_in(text, 8192);
        for step in [1, 2, 3, 7] {
            assert_eq!(cut_in(text, step), all, "read {step} bytes at a time");
        }
        all
    }

    fn cut_in(text: &str, step: usize) -> Vec<(u64, String)> {
        let input = io::BufReader::with_capacity(step.max(3), text.as_bytes());
        let documents: Vec<_> = Documents::new(input).collect::<Result<_, _>>().unwrap();
        for (i, document) in documents.iter().enumerate() {
            assert_eq!(document.number, i as u64 + 1);
        }
        let shown = |d: Document| match d.fault {
            Some(fault) => format!("! {fault}"),
            None => String::from_utf8(d.text).unwrap().trim().to_owned(),
        };
        documents.into_iter().map(|d| (d.line, shown(d))).collect()
    }

    fn expect(text: &str, documents: &[(u64, &str)]) {
        let want: Vec<_> = documents.iter().map(|(line, text)| (*line, (*text).to_owned())).collect();
        assert_eq!(cut(text), want, "{text:?}");
    }

    #[test]
    fn yaml_is_cut_at_its_markers() {
        expect("", &[]);
        expect("---\n# nothing\n---\n...\n", &[]);
        expect("a: 1\n", &[(1, "a: 1")]);
        expect(
            "# first\n---\na: 1\n---\n\nb: 2\n...\n---\nc: 3",
            &[(3, "# first\n---\na: 1"), (6, "---\n\nb: 2"), (9, "---\nc: 3")],
        );
        expect("a: |\n  ---\n  x\n---\nb: 1\n", &[(1, "a: |\n  ---\n  x"), (5, "---\nb: 1")]);
        expect("a: 1\r\n---\r\nb: 2\r\n", &[(1, "a: 1"), (3, "---\r\nb: 2")]);
        expect("%YAML 1.2\n---\na: 1\n", &[(3, "%YAML 1.2\n---\na: 1")]);
        expect("--- {a: 1}\n---x: 1\n", &[(1, "--- {a: 1}\n---x: 1")]);
        expect("\u{feff}a: 1\n", &[(1, "a: 1")]);
        expect("\n\n  a: 1\n  b: 2\n", &[(3, "a: 1\n  b: 2")]);
    }

    #[test]
    fn json_is_cut_where_its_braces_close() {
        expect("{\"a\":1}\n{\"b\":\"}\"}", &[(1, "{\"a\":1}"), (2, "{\"b\":\"}\"}")]);
        expect("{\n\"a\": {\"b\": [1]}\n}\n", &[(1, "{\n\"a\": {\"b\": [1]}\n}")]);
        expect("{\"a\":\"\\\"{\"}{\"b\":2}", &[(1, "{\"a\":\"\\\"{\"}"), (1, "{\"b\":2}")]);
        expect("{\"a\":1}\n---\n{\"b\":2}\n---\nc: 3\n", &[(1, "{\"a\":1}"), (3, "{\"b\":2}"), (5, "---\nc: 3")]);
        expect("\u{feff}{\"a\":1}", &[(1, "{\"a\":1}")]);
    }

    #[test]
    fn a_json_list_is_cut_into_its_items() {
        expect(
            "{\"kind\":\"List\",\"items\":[\n{\"a\":1},\n{\"items\":[1]}\n],\"metadata\":{}}\n{\"b\":2}\n",
            &[(2, "{\"a\":1}"), (3, "{\"items\":[1]}"), (5, "{\"b\":2}")],
        );
        expect("{\"items\":[]}{\"b\":2}", &[(1, "{\"b\":2}")]);
        expect("{\"items\": [ 1 , {\"a\":1} ]}", &[(1, "1"), (1, "{\"a\":1}")]);
        expect("{\"x\":{\"items\":[{}]}}", &[(1, "{\"x\":{\"items\":[{}]}}")]);
        expect("{\"x\":\"items\",\"y\":[{}]}", &[(1, "{\"x\":\"items\",\"y\":[{}]}")]);
    }

    #[test]
    fn what_can_not_be_cut_is_told_and_the_next_one_goes_on() {
        let ends = "! the file ends before it is complete";
        expect("{\"a\":1}\n{\"b\":", &[(1, "{\"a\":1}"), (2, ends)]);
        let line = "! a text in it does not end on its line";
        expect("{\"a\":\"x\n{\"b\":2}\n", &[(1, line), (2, "{\"b\":2}")]);
        let neither = "! it is neither JSON nor, since there is no line --- before it, YAML";
        expect("{\"a\":1}\nnonsense\n{\"b\":2}\n", &[(1, "{\"a\":1}"), (2, neither), (3, "{\"b\":2}")]);
        expect("{\"items\":[{\"a\":1},", &[(1, "{\"a\":1}"), (1, ends)]);
    }

    #[test]
    fn a_document_that_is_too_large_is_told_and_takes_no_more_memory() {
        let mut text = "a: ".to_owned();
        text.push_str(&"x".repeat(DOCUMENT_LIMIT + 10));
        text.push_str("\n---\nb: 1\n");
        let documents: Vec<_> = Documents::new(text.as_bytes()).collect::<Result<_, _>>().unwrap();
        assert_eq!(documents.len(), 2);
        assert!(documents[0].fault.as_deref().unwrap().contains("larger than"));
        assert!(documents[0].text.is_empty());
        assert_eq!(documents[1].line, 3);
    }

    #[test]
    fn half_a_document_before_an_error_is_not_given_out() {
        struct Torn(&'static [u8]);
        impl io::Read for Torn {
            fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
                if self.0.is_empty() {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                io::Read::read(&mut self.0, out)
            }
        }
        let mut documents = Documents::new(io::BufReader::new(Torn(b"a: 1\n---\nb: 1\nc:")));
        assert_eq!(documents.next().unwrap().unwrap().line, 1);
        assert!(documents.next().unwrap().is_err());
        assert!(documents.next().is_none());
    }
}
