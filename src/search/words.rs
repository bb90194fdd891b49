//! How text becomes words: the same way for what is indexed and for what is asked.
//!
//! A word is a run of letters and digits, in lower case, full-width forms as plain ones. Chinese, Japanese and
//! Korean are written without spaces: a run of theirs is indexed by its characters and by its pairs of
//! characters, and asked for by its pairs. So no dictionary is needed, and none can be out of date.

use std::collections::HashSet;

use crate::error::Error;

/// The longest text that is searched for, in characters.
pub const MAX_TEXT: usize = 256;
/// The most words that a text may have; each pair of Chinese characters is one.
pub const MAX_WORDS: usize = 32;
/// The longest word that is indexed, in bytes: what is longer is a digest or a picture in base64.
const MAX_WORD: usize = 64;
/// The longest beginning of a name by which it is found, in characters.
pub(super) const MAX_PREFIX: usize = 32;
/// In shorter words, in characters, no typo is forgiven: they are too much alike.
const FORGIVEN_FROM: usize = 4;
/// In longer ones neither: nothing is called so.
const FORGIVEN_TO: usize = 40;

/// Words that say nothing of what is looked for: they are left out where others are left.
const FILLERS: [&str; 14] = ["a", "an", "and", "as", "at", "by", "for", "in", "is", "of", "on", "the", "to", "with"];

/// What the supported keywords are called in Chinese: whoever asks for one of these means the other, too.
const CHINESE: [(&str, &str); 12] = [
    ("存储", "storage"),
    ("网络", "network"),
    ("数据库", "database"),
    ("监控", "monitoring"),
    ("日志", "logging"),
    ("仪表盘", "dashboard"),
    ("仪表板", "dashboard"),
    ("消息队列", "mq"),
    ("平台", "platform"),
    ("显卡", "gpu"),
    ("证书", "certificate"),
    ("缓存", "cache"),
];

/// A word that is to be found, or another in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    pub(super) also: Option<&'static str>,
}

/// A text that is searched for, read once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text {
    /// All of it, folded, without space around it.
    whole: String,
    /// What of it is a name: without the tag.
    name: String,
    /// The letters and digits of the name.
    joined: String,
    tag: Option<String>,
    words: Vec<Word>,
}

impl Text {
    /// Reads what somebody typed. `None` where that is nothing but space. Nothing in it is syntax, but for the
    /// colon before a tag.
    ///
    /// # Errors
    /// `BadRequest` where it is longer than [`MAX_TEXT`] or has more words than [`MAX_WORDS`].
    pub fn parse(text: &str) -> Result<Option<Self>, Error> {
        // Four bytes are the most that a character has: what is very long is not counted.
        if text.len() > MAX_TEXT * 4 || text.chars().count() > MAX_TEXT {
            return Err(Error::BadRequest(format!("the search text is longer than {MAX_TEXT} characters")));
        }
        let whole: String = folded(text.trim()).collect();
        if whole.is_empty() {
            return Ok(None);
        }
        let (name, tag) = split_tag(&whole);
        let mut words = Vec::new();
        split(name, Grams::Asked, |word| words.push(word.to_owned()));
        let told = |word: &String| !FILLERS.contains(&word.as_str());
        if words.iter().any(told) {
            words.retain(told);
        }
        let mut seen = HashSet::new();
        words.retain(|word| seen.insert(word.clone()));
        if words.len() > MAX_WORDS {
            let many = words.len();
            return Err(Error::BadRequest(format!(
                "the search text has {many} words; at most {MAX_WORDS} are searched for"
            )));
        }
        let also = |word: &str| {
            let meant = CHINESE.iter().find(|(chinese, _)| chinese.contains(word) && name.contains(chinese));
            meant.map(|(_, english)| *english)
        };
        let words = words.into_iter().map(|text| Word { also: also(&text), text }).collect();
        let joined = joined(name).collect();
        let (name, tag) = (name.to_owned(), tag.map(str::to_owned));
        Ok(Some(Self { whole, name, joined, tag, words }))
    }

    /// All of it, in the form that is searched for.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.whole
    }

    /// The tag in it, in lower case, as in `org/repo:tag`.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The words, all of which are to be found.
    pub(super) fn words(&self) -> &[Word] {
        &self.words
    }

    /// How much of the full name `org/repo` this text is.
    pub(super) fn likeness(&self, full: &str) -> Likeness {
        let repo = full.split_once('/').map_or(full, |(_, repo)| repo);
        let begins = |name: &str| {
            name.as_bytes().get(..self.name.len()).is_some_and(|b| b.eq_ignore_ascii_case(self.name.as_bytes()))
        };
        if [full, repo].iter().any(|name| name.len() == self.name.len() && begins(name)) {
            return Likeness::Exact;
        }
        if self.joined.is_empty() {
            return Likeness::Words;
        }
        if [full, repo].iter().any(|name| joined(name).eq(self.joined.chars())) {
            return Likeness::ButForSeparators;
        }
        let joined_begins = |name: &str| {
            let mut letters = joined(name);
            self.joined.chars().all(|c| letters.next() == Some(c))
        };
        if begins(full) || begins(repo) || joined_begins(repo) {
            return Likeness::Begins;
        }
        Likeness::Words
    }
}

/// How a name is like a text, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Likeness {
    /// It has the words, if anything.
    Words,
    /// It begins with it.
    Begins,
    /// It is the same but for what stands between the words.
    ButForSeparators,
    /// It is the same.
    Exact,
}

/// Name and tag, where the text has the form of both.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    let Some((name, tag)) = text.rsplit_once(':') else { return (text, None) };
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '+');
    let is_name = !name.is_empty() && !name.contains(char::is_whitespace) && !name.contains(':');
    if !is_name || !tag.chars().all(fits) {
        return (text, None);
    }
    (name, (!tag.is_empty()).then_some(tag))
}

/// Whether a typo in `word` is forgiven.
pub(super) fn forgives(word: &str) -> bool {
    let length = word.chars().count();
    (FORGIVEN_FROM..=FORGIVEN_TO).contains(&length) && !word.contains(is_cjk)
}

/// What a run of characters without spaces becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grams {
    /// Its characters and its pairs.
    Indexed,
    /// Its pairs; a single character as it is.
    Asked,
}

/// Lower case; full-width forms, as Chinese keyboards make them, become plain ones.
fn folded(text: &str) -> impl Iterator<Item = char> {
    text.chars()
        .map(|c| match c {
            '\u{ff01}'..='\u{ff5e}' => u32::from(c).checked_sub(0xfee0).and_then(char::from_u32).unwrap_or(c),
            '\u{3000}' => ' ',
            c => c,
        })
        .flat_map(char::to_lowercase)
}

/// The letters and digits of a name.
pub(super) fn joined(name: &str) -> impl Iterator<Item = char> {
    folded(name).filter(|c| c.is_alphanumeric())
}

fn is_cjk(c: char) -> bool {
    matches!(c,
        '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}'
        | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{2fa1f}')
}

/// Tells each word of `text`.
pub(super) fn split(text: &str, grams: Grams, mut each: impl FnMut(&str)) {
    let mut word = String::new();
    let mut run: Vec<char> = Vec::new();
    for c in folded(text).chain([' ']) {
        let cjk = is_cjk(c);
        if !cjk && !run.is_empty() {
            tell_run(&run, grams, &mut each);
            run.clear();
        }
        if cjk || !c.is_alphanumeric() {
            if !word.is_empty() && (word.len() <= MAX_WORD || grams == Grams::Asked) {
                each(&word);
            }
            word.clear();
        }
        if cjk {
            run.push(c);
        } else if c.is_alphanumeric() {
            word.push(c);
        }
    }
}

fn tell_run(run: &[char], grams: Grams, each: &mut impl FnMut(&str)) {
    let mut tell = |part: &[char]| each(&part.iter().collect::<String>());
    if run.len() == 1 || grams == Grams::Indexed {
        run.chunks(1).for_each(&mut tell);
    }
    run.windows(2).for_each(&mut tell);
}

/// A list of different words with a space between them, as the inverted index takes it.
#[derive(Debug, Default)]
pub(super) struct List {
    text: String,
    seen: HashSet<Box<str>>,
}

impl List {
    /// Adds a word, once.
    pub(super) fn add(&mut self, word: &str) {
        if !word.is_empty() && word.len() <= MAX_WORD && !self.seen.contains(word) {
            self.seen.insert(word.into());
            self.text.push_str(word);
            self.text.push(' ');
        }
    }

    /// Adds the words of a text.
    pub(super) fn add_words(&mut self, text: &str) {
        split(text, Grams::Indexed, |word| self.add(word));
    }

    /// Adds all beginnings of a word, the word itself among them.
    pub(super) fn add_prefixes(&mut self, word: &str) {
        for (end, _) in word.char_indices().skip(1).take(MAX_PREFIX - 1) {
            self.add(&word[..end]);
        }
        self.add(word);
    }

    /// All of them.
    pub(super) fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn words(text: &str, grams: Grams) -> Vec<String> {
        let mut found = Vec::new();
        split(text, grams, |word| found.push(word.to_owned()));
        found
    }

    fn read(text: &str) -> Text {
        Text::parse(text).unwrap().unwrap()
    }

    fn asked(text: &str) -> Vec<String> {
        read(text).words().iter().map(|word| word.text.clone()).collect()
    }

    #[test]
    fn words_are_runs_of_letters_and_digits_and_pairs_of_chinese_characters() {
        assert_eq!(words("Kube-Prometheus_stack v0.56", Grams::Indexed), ["kube", "prometheus", "stack", "v0", "56"]);
        assert_eq!(words("MySQL数据库!", Grams::Asked), ["mysql", "数据", "据库"]);
        assert_eq!(words("数据库", Grams::Indexed), ["数", "据", "库", "数据", "据库"]);
        assert_eq!(words("库 x", Grams::Asked), ["库", "x"]);
        assert_eq!(words("Ｒｅｄｉｓ　缓存", Grams::Asked), ["redis", "缓存"]);
    }

    #[test]
    fn a_tag_is_what_follows_the_colon_of_a_name() {
        let parts = |text: &str| (read(text).name, read(text).tag);
        assert_eq!(parts("labring/redis:7.4"), ("labring/redis".to_owned(), Some("7.4".to_owned())));
        assert_eq!(parts("redis:"), ("redis".to_owned(), None));
        for text in ["https://example.com/x", "key: value", ":x", "a:b:c"] {
            assert_eq!(parts(text), (text.to_owned(), None), "{text}");
        }
    }

    #[test]
    fn fillers_are_left_out_where_something_is_left() {
        assert_eq!(asked("a database for the logs"), ["database", "logs"]);
        assert_eq!(asked("to the"), ["to", "the"]);
        assert_eq!(Text::parse(" \t ").unwrap(), None);
        assert_eq!(asked("!?"), [""; 0]);
    }

    #[test]
    fn a_keywords_chinese_name_means_the_keyword() {
        let also = |text: &str| read(text).words().iter().map(|word| word.also).collect::<Vec<_>>();
        assert_eq!(also("mysql 数据库"), [None, Some("database"), Some("database")]);
        assert_eq!(also("数据"), [None]);
    }

    #[test]
    fn names_are_alike_by_degrees() {
        let like = |text: &str, name: &str| read(text).likeness(name);
        assert_eq!(like("Redis", "labring/redis"), Likeness::Exact);
        assert_eq!(like("labring/redis", "labring/redis"), Likeness::Exact);
        assert_eq!(like("cert manager", "labring/cert-manager"), Likeness::ButForSeparators);
        assert_eq!(like("certman", "labring/cert-manager"), Likeness::Begins);
        assert_eq!(like("labring/ce", "labring/cert-manager"), Likeness::Begins);
        assert_eq!(like("manager", "labring/cert-manager"), Likeness::Words);
        assert_eq!(like("数据", "labring/cert-manager"), Likeness::Words);
    }

    #[test]
    fn what_is_too_long_is_refused_at_the_limit() {
        assert!(Text::parse(&"x".repeat(MAX_TEXT)).is_ok());
        assert!(Text::parse(&"x".repeat(MAX_TEXT + 1)).is_err());
        let many = |count: usize| (0..count).map(|i| format!("w{i}")).collect::<Vec<_>>().join(" ");
        assert!(Text::parse(&many(MAX_WORDS)).is_ok());
        assert!(Text::parse(&many(MAX_WORDS + 1)).is_err());
    }

    proptest! {
        #![proptest_config(crate::api::seeded())]

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,300}|[a-z:/ \u{ff01}数据]{0,40}", name in "[a-zA-Z/.-]{0,12}") {
            if let Ok(Some(text)) = Text::parse(&text) {
                prop_assert!(text.words().len() <= MAX_WORDS);
                let _ = text.likeness(&name);
            }
        }

        #[test]
        fn the_words_that_are_asked_for_are_among_those_that_are_indexed(text in "[a-c数据库 -]{0,20}") {
            let indexed = words(&text, Grams::Indexed);
            for word in words(&text, Grams::Asked) {
                prop_assert!(indexed.contains(&word));
            }
        }
    }
}
