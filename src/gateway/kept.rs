//! Whole answers, kept. An entry says which clocks it was read at; it is given again only where all of them still stand
//! there in the snapshot of the request, so that nothing is ever invalidated, and what was written elsewhere in the
//! catalogue costs nothing. Who asks is in the key.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::HeaderValue;
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};

use super::coding::{COMPRESS_FROM, Coding};
use super::view::{Clock, Reads};
use crate::api::name::hex;
use crate::auth::Caller;
use crate::graph::{Revision, Sight, Visible};
use crate::search::Search;

/// What all answers take at most, in bytes. What was asked for the latest of them takes up to [`PLACES`] times
/// [`LONGEST_WORDS`] more.
pub const ANSWER_BYTES: u64 = 128 * 1024 * 1024;
/// The largest answer that is kept, in bytes.
pub const LARGEST_ANSWER: usize = 1024 * 1024;

/// How many answers are found by a look at one place, without the cache.
const PLACES: usize = 4096;
/// After so many answers that were found so the cache itself is asked, so that it knows what is in use.
const TOLD_EVERY: u64 = 64;

/// The longest question that is found so, in bytes.
const LONGEST_WORDS: usize = 4096;
/// Room for whoever asks, and for the lengths of the parts.
const USUAL_WORDS: usize = 192;

/// What is asked, and who asks: in all words.
#[derive(Debug, PartialEq, Eq)]
pub struct Question(Vec<u8>);

/// What an answer is kept by: a digest of the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 32]);

/// A whole answer without errors.
#[derive(Debug)]
pub struct Answer {
    /// The filling of the graph that the clocks are of.
    generation: u64,
    clocks: Box<[Clock]>,
    /// Up to which revision a text was searched for, where one was.
    searched: Option<Revision>,
    /// Whether it may be another once the search has come further, though no clock moves.
    provisional: bool,
    /// The body.
    pub body: Bytes,
    /// A digest of it, in quotes.
    pub etag: String,
    /// The same as a header's value.
    pub etag_value: HeaderValue,
    /// The Link header that goes with it.
    pub link: Option<HeaderValue>,
    /// The body in each coding that somebody took it in, where it is smaller so.
    packed: [OnceLock<Option<Bytes>>; Coding::ALL.len()],
}

/// The answers that are kept, of all doors.
#[derive(Debug, Clone)]
pub struct Answers {
    cache: Cache<Key, Arc<Answer>>,
    /// One for each of some questions: the one of them that was asked last.
    places: Arc<[ArcSwapOption<Noted>]>,
    /// Which place a question has.
    hasher: RandomState,
    counts: Arc<Counts>,
}

/// An answer of the cache, for as long as it is there, and a question that it is the answer to.
#[derive(Debug)]
struct Noted {
    question: Question,
    answer: Weak<Answer>,
}

#[derive(Debug, Default)]
struct Counts {
    hits: AtomicU64,
    misses: AtomicU64,
}

/// What became of the questions so far, and what is kept now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AnswerStats {
    /// Answers that were kept and stood.
    pub hits: u64,
    /// Those that were made.
    pub misses: u64,
    /// The answers that are kept, some of which may stand no more.
    pub entries: u64,
    /// About their bytes.
    pub bytes: u64,
}

/// Hands `tell` what `parts` say, asked by `caller` with what it sees: how many there are, and how long each is, so that no
/// two questions are the same bytes.
fn each(parts: &[&[u8]], caller: &Caller, visible: &Visible, mut tell: impl FnMut(&[u8])) {
    let mut part = |bytes: &[u8]| {
        tell(&(bytes.len() as u64).to_le_bytes());
        tell(bytes);
    };
    part(&(parts.len() as u64).to_le_bytes());
    for one in parts {
        part(one);
    }
    part(caller.user().as_bytes());
    match visible.sight() {
        Sight::Everything => part(b"everything"),
        Sight::Public => part(b"public"),
        sight @ Sight::Manager(_) => part(format!("{sight:?}").as_bytes()),
    }
    part(&[u8::from(caller.is_authenticated()), u8::from(caller.is_administrator()), u8::from(caller.is_publisher())]);
    for group in caller.groups() {
        part(group.as_bytes());
    }
}

impl Question {
    /// Of what `parts` say, asked by `caller` with what it sees; none where that is too long to be found so.
    #[must_use]
    pub fn new(parts: &[&[u8]], caller: &Caller, visible: &Visible) -> Option<Self> {
        let length = parts.iter().map(|part| part.len()).sum::<usize>();
        if length > LONGEST_WORDS {
            return None;
        }
        let mut words = Vec::with_capacity(length + USUAL_WORDS);
        each(parts, caller, visible, |bytes| words.extend_from_slice(bytes));
        Some(Self(words)).filter(|question| question.0.len() <= LONGEST_WORDS)
    }
}

impl Key {
    /// Of what `parts` say, asked by `caller` with what it sees.
    #[must_use]
    pub fn new(parts: &[&[u8]], caller: &Caller, visible: &Visible) -> Self {
        let mut hasher = Sha256::new();
        each(parts, caller, visible, |bytes| hasher.update(bytes));
        Self(hasher.finalize().into())
    }
}

impl Answer {
    /// One that was read from what `reads` says of what `visible` shows.
    #[must_use]
    pub fn new(reads: &Reads, visible: &Visible, body: Bytes, link: Option<HeaderValue>) -> Self {
        let (etag, etag_value) = tags(&body);
        Self {
            generation: visible.generation(),
            clocks: reads.clocks(visible),
            searched: reads.searched(),
            provisional: reads.is_provisional(visible),
            body,
            etag,
            etag_value,
            link,
            packed: Default::default(),
        }
    }

    /// The body as a client takes it: compressed where that is worth it. It is done once.
    #[must_use]
    pub fn body_in(&self, coding: Option<Coding>) -> (&Bytes, Option<Coding>) {
        let coding = coding.filter(|_| self.body.len() >= COMPRESS_FROM);
        let packed = coding.and_then(|coding| {
            let packed = self.packed[coding as usize].get_or_init(|| coding.encode(&self.body)).as_ref()?;
            Some((packed, Some(coding)))
        });
        packed.unwrap_or((&self.body, None))
    }

    /// One that is the same whatever the catalogue is.
    #[must_use]
    pub fn fixed(body: Bytes) -> Self {
        let (etag, etag_value) = tags(&body);
        Self {
            generation: 0,
            clocks: Box::default(),
            searched: None,
            provisional: false,
            body,
            etag,
            etag_value,
            link: None,
            packed: Default::default(),
        }
    }

    /// About what it takes in memory, in bytes: its compressed forms together are smaller than itself.
    fn weight(&self) -> usize {
        2 * self.body.len() + self.clocks.len() * size_of::<Clock>() + 512
    }

    /// The same without its body: enough to tell whether it still stands, for those who wait until it doesn't.
    #[must_use]
    pub fn mark(&self) -> Self {
        Self {
            generation: self.generation,
            clocks: self.clocks.clone(),
            searched: self.searched,
            provisional: self.provisional,
            body: Bytes::new(),
            etag: self.etag.clone(),
            etag_value: self.etag_value.clone(),
            link: None,
            packed: Default::default(),
        }
    }

    /// The entity tag of a body.
    #[must_use]
    pub fn tag(body: &[u8]) -> String {
        format!("\"{}\"", hex(&Sha256::digest(body)[..16]))
    }

    /// Whether it is still right for what `visible` shows.
    #[must_use]
    pub fn stands(&self, visible: &Visible) -> bool {
        !self.provisional
            && self.generation == visible.generation()
            && self.clocks.iter().all(|clock| clock.stands(visible))
    }

    /// Whether it may be another once the search has come further.
    #[must_use]
    pub fn is_provisional(&self) -> bool {
        self.provisional
    }

    /// Up to which revision a text was searched for, where one was: at least. An answer that stands would be the same by
    /// a search that has come further since.
    #[must_use]
    pub fn searched(&self, search: Option<&Search>) -> Option<Revision> {
        let told = self.searched?;
        let now = search.filter(|_| !self.provisional).and_then(Search::revision);
        Some(now.map_or(told, |now| now.max(told)))
    }
}

/// The entity tag of a body, also as a header's value.
fn tags(body: &[u8]) -> (String, HeaderValue) {
    let tag = Answer::tag(body);
    let value = tag_value(&tag);
    (tag, value)
}

/// An entity tag as a header's value.
pub(crate) fn tag_value(tag: &str) -> HeaderValue {
    HeaderValue::from_str(tag).expect("a tag is hexadecimal, and the names of codings and forms")
}

fn weight(_: &Key, answer: &Arc<Answer>) -> u32 {
    u32::try_from(answer.weight()).unwrap_or(u32::MAX)
}

impl Default for Answers {
    fn default() -> Self {
        let cache = Cache::builder().max_capacity(ANSWER_BYTES).weigher(weight).build();
        let places = std::iter::repeat_with(ArcSwapOption::empty).take(PLACES).collect();
        Self { cache, places, hasher: RandomState::new(), counts: Arc::default() }
    }
}

impl Answers {
    /// The answer to a question that was put in just these words before, if it is still right for what `visible` shows.
    #[must_use]
    pub fn recall(&self, question: &Question, visible: &Visible) -> Option<Arc<Answer>> {
        let found = self.counts.hits.load(Ordering::Relaxed);
        if found.is_multiple_of(TOLD_EVERY) {
            return None;
        }
        let noted = self.place(question).load();
        let answer = noted.as_ref().filter(|noted| noted.question == *question)?.answer.upgrade()?;
        if !answer.stands(visible) {
            return None;
        }
        self.counts.hits.fetch_add(1, Ordering::Relaxed);
        Some(answer)
    }

    /// Notes the answer that [`Answers::get`] gave, or that was [`put`](Answers::put), for [`Answers::recall`].
    pub fn note(&self, mut question: Question, answer: &Arc<Answer>) {
        question.0.shrink_to_fit();
        self.place(&question).store(Some(Arc::new(Noted { question, answer: Arc::downgrade(answer) })));
    }

    /// A question's place among the [`PLACES`].
    fn place(&self, question: &Question) -> &ArcSwapOption<Noted> {
        let hash = self.hasher.hash_one(&question.0);
        &self.places[usize::try_from(hash % PLACES as u64).unwrap_or_default()]
    }

    /// The answer, if it is still right for what `visible` shows.
    #[must_use]
    pub fn get(&self, key: &Key, visible: &Visible) -> Option<Arc<Answer>> {
        let answer = self.cache.get(key).filter(|answer| answer.stands(visible));
        let Counts { hits, misses } = &*self.counts;
        if answer.is_some() { hits } else { misses }.fetch_add(1, Ordering::Relaxed);
        answer
    }

    /// Keeps an answer, unless it is very large, or may be another soon.
    pub fn put(&self, key: Key, answer: &Arc<Answer>) {
        if !answer.provisional && answer.body.len() <= LARGEST_ANSWER {
            self.cache.insert(key, Arc::clone(answer));
        }
    }

    /// What became of the questions so far.
    #[must_use]
    pub fn stats(&self) -> AnswerStats {
        let Counts { hits, misses } = &*self.counts;
        AnswerStats {
            hits: hits.load(Ordering::Relaxed),
            misses: misses.load(Ordering::Relaxed),
            entries: self.cache.entry_count(),
            bytes: self.cache.weighted_size(),
        }
    }
}
