//! The inverted index: which rows have which words, and where. tantivy in memory; no frequencies, no positions and
//! no scores of its own. Those would be statistics of all documents, so that private ones changed the order of
//! what others see. Here a row's score is a function of that row and the text alone.

use tantivy::directory::RamDirectory;
use tantivy::indexer::LogMergePolicy;
use tantivy::query::FuzzyTermQuery;
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::termdict::TermDictionary;
use tantivy::{
    Index, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, Searcher, SegmentReader, TantivyDocument,
    TantivyError, Term,
};

use super::rows::ImageText;
use super::words::{List, MAX_PREFIX, Text, forgives, joined};

/// What the writer holds in memory before it makes a segment, in bytes.
const WRITER_BYTES: usize = 32 * 1024 * 1024;
/// So much text is handed to the writer at most before it is waited for: it takes it on a thread of its own.
const HANDED_BYTES: usize = 32 * 1024 * 1024;
/// How much of an image's documentation is searched, in bytes. What comes later is no summary.
pub(super) const DOCS_BYTES: usize = 64 * 1024;
/// The share of deleted documents from which on a segment is written anew.
const DELETED_SHARE: f32 = 0.3;

/// Where a word was found: bits.
mod place {
    pub(super) const DOCS: u8 = 1;
    pub(super) const DESCRIPTION: u8 = 1 << 1;
    pub(super) const KEYWORD: u8 = 1 << 2;
    pub(super) const ORGANIZATION: u8 = 1 << 3;
    pub(super) const NAME_PREFIX: u8 = 1 << 4;
    pub(super) const NAME: u8 = 1 << 5;
    /// With a typo.
    pub(super) const NEAR_NAME: u8 = 1 << 6;
    /// With a typo.
    pub(super) const NEAR_OTHER: u8 = 1 << 7;
}

/// What a word counts that is found in the organization's name, or in the repository's: what is lower is not a
/// match of names.
pub(super) const NAMED: u8 = 48;

/// What a word counts that is found in these places. Only the best of the kinds counts, so that popularity decides
/// among equals; but of two with the keyword the one that describes itself so, too, is the better one.
const fn weight(places: u8) -> u8 {
    if places & place::NAME != 0 {
        return NAMED + 16;
    }
    if places & place::NAME_PREFIX != 0 {
        return NAMED + 8;
    }
    if places & place::ORGANIZATION != 0 {
        return NAMED;
    }
    if places & place::NEAR_NAME != 0 {
        return NAMED - 8;
    }
    let keyword = if places & place::KEYWORD != 0 { 16 } else { 0 };
    let description = if places & place::DESCRIPTION != 0 { 8 } else { 0 };
    if keyword + description > 0 {
        return keyword + description;
    }
    if places & place::DOCS != 0 {
        return 4;
    }
    if places & place::NEAR_OTHER != 0 { 2 } else { 0 }
}

const WEIGHTS: [u8; 256] = {
    let mut weights = [0; 256];
    let mut places: u8 = 0;
    loop {
        weights[places as usize] = weight(places);
        if places == u8::MAX {
            break weights;
        }
        places += 1;
    }
};

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// All text, as it is written.
    All,
    /// All text, typos forgiven.
    AllForgiving,
    /// Names, as they are written.
    Names,
    /// Names, typos forgiven.
    NamesForgiving,
}

impl Scope {
    fn forgives(self) -> bool {
        matches!(self, Self::AllForgiving | Self::NamesForgiving)
    }

    fn only_names(self) -> bool {
        matches!(self, Self::Names | Self::NamesForgiving)
    }
}

/// A row that has every word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Match {
    pub(super) row: u32,
    /// The sum of what the words count.
    pub(super) score: u16,
    /// Whether all are in names.
    pub(super) named: bool,
}

#[derive(Debug, Clone, Copy)]
struct Fields {
    row: Field,
    name: Field,
    name_prefix: Field,
    organization: Field,
    keyword: Field,
    description: Field,
    docs: Field,
}

impl Fields {
    fn schema() -> (Schema, Self) {
        let mut schema = Schema::builder();
        let indexing = TextFieldIndexing::default()
            .set_tokenizer("whitespace")
            .set_fieldnorms(false)
            .set_index_option(IndexRecordOption::Basic);
        let words = TextOptions::default().set_indexing_options(indexing);
        let mut text = |name| schema.add_text_field(name, words.clone());
        let (name, name_prefix, organization) = (text("name"), text("name_prefix"), text("organization"));
        let (keyword, description, docs) = (text("keyword"), text("description"), text("docs"));
        let row = schema.add_u64_field("row", INDEXED | FAST);
        (schema.build(), Self { row, name, name_prefix, organization, keyword, description, docs })
    }
}

/// The one who writes the index.
pub(super) struct Writer {
    index: IndexWriter,
    reader: IndexReader,
    fields: Fields,
    /// Bytes that the writer may not have taken yet.
    handed: usize,
    changed: bool,
}

/// The index as of a commit.
#[derive(Clone)]
pub(super) struct Inverted {
    searcher: Searcher,
    fields: Fields,
}

/// An empty index.
pub(super) fn create() -> Result<(Writer, Inverted), TantivyError> {
    let (schema, fields) = Fields::schema();
    let index = Index::create(RamDirectory::create(), schema, IndexSettings::default())?;
    // One thread: a row's new document must not be told before its old one is taken out.
    let writer = index.writer_with_num_threads(1, WRITER_BYTES)?;
    let mut policy = LogMergePolicy::default();
    policy.set_del_docs_ratio_before_merge(DELETED_SHARE);
    writer.set_merge_policy(Box::new(policy));
    let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
    let writer = Writer { index: writer, reader, fields, handed: 0, changed: false };
    let inverted = writer.read();
    Ok((writer, inverted))
}

impl Writer {
    /// Takes what a row's document was out.
    pub(super) fn remove(&mut self, row: u32) {
        self.index.delete_term(Term::from_field_u64(self.fields.row, u64::from(row)));
        self.changed = true;
    }

    /// Puts a row's document in.
    pub(super) fn add(&mut self, row: u32, full: &str, text: &ImageText) -> Result<(), TantivyError> {
        let (organization, repository) = full.split_once('/').unwrap_or(("", full));
        let fields = self.fields;
        let mut document = TantivyDocument::default();
        document.add_u64(fields.row, u64::from(row));
        let mut bytes = 0;
        let mut put = |field, list: List| {
            let text = list.into_text();
            bytes += text.len();
            document.add_text(field, text);
        };
        let whole: String = joined(repository).collect();
        let mut name = List::default();
        name.add_words(repository);
        name.add(&whole);
        put(fields.name, name);
        let mut prefixes = List::default();
        super::words::split(repository, super::words::Grams::Indexed, |word| prefixes.add_prefixes(word));
        prefixes.add_prefixes(&whole);
        put(fields.name_prefix, prefixes);
        let mut organizations = List::default();
        super::words::split(organization, super::words::Grams::Indexed, |word| organizations.add_prefixes(word));
        organizations.add_prefixes(&joined(organization).collect::<String>());
        put(fields.organization, organizations);
        let mut keywords = List::default();
        for keyword in &text.keywords {
            super::words::split(keyword, super::words::Grams::Indexed, |word| keywords.add_prefixes(word));
        }
        put(fields.keyword, keywords);
        let mut description = List::default();
        description.add_words(beginning(&text.description));
        put(fields.description, description);
        let mut docs = List::default();
        docs.add_words(beginning(&text.docs));
        put(fields.docs, docs);
        self.index.add_document(document)?;
        self.changed = true;
        self.handed += bytes;
        if self.handed > HANDED_BYTES {
            self.commit()?;
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), TantivyError> {
        self.index.commit()?;
        self.handed = 0;
        self.changed = false;
        Ok(())
    }

    /// Commits what was changed. Answers with the index as it is then, where it was.
    pub(super) fn publish(&mut self) -> Result<Inverted, TantivyError> {
        if self.changed {
            self.commit()?;
        }
        self.reader.reload()?;
        Ok(self.read())
    }

    fn read(&self) -> Inverted {
        Inverted { searcher: self.reader.searcher(), fields: self.fields }
    }
}

/// As much of a text as is searched.
fn beginning(text: &str) -> &str {
    &text[..text.floor_char_boundary(DOCS_BYTES)]
}

impl Inverted {
    /// The rows that have every word of `text`, in no order.
    pub(super) fn find(&self, text: &Text, scope: Scope) -> Result<Vec<Match>, TantivyError> {
        let mut found = Vec::new();
        if text.words().is_empty() {
            return Ok(found);
        }
        for segment in self.searcher.segment_readers() {
            self.find_in(segment, text, scope, &mut found)?;
        }
        Ok(found)
    }

    fn find_in(
        &self,
        segment: &SegmentReader,
        text: &Text,
        scope: Scope,
        found: &mut Vec<Match>,
    ) -> Result<(), TantivyError> {
        let documents = segment.max_doc() as usize;
        let mut places = vec![0_u8; documents];
        let mut scores = vec![0_u16; documents];
        let mut least = vec![u8::MAX; documents];
        for word in text.words() {
            places.fill(0);
            self.mark(segment, &word.text, scope, &mut places)?;
            if let Some(also) = word.also {
                self.mark(segment, also, scope, &mut places)?;
            }
            let mut any = false;
            for ((places, score), least) in places.iter().zip(&mut scores).zip(&mut least) {
                let weight = WEIGHTS[usize::from(*places)];
                *score += u16::from(weight);
                *least = weight.min(*least);
                any |= *least > 0;
            }
            if !any {
                return Ok(());
            }
        }
        let rows = segment.fast_fields().column_first_or_default::<u64>("row")?;
        let alive = segment.alive_bitset();
        for (document, (score, least)) in (0_u32..).zip(scores.iter().zip(&least)) {
            if *least > 0 && alive.is_none_or(|alive| alive.is_alive(document)) {
                let row = u32::try_from(rows.get_val(document)).unwrap_or(u32::MAX);
                found.push(Match { row, score: *score, named: *least >= NAMED });
            }
        }
        Ok(())
    }

    /// Marks the documents that have a word, with where they have it.
    fn mark(&self, segment: &SegmentReader, word: &str, scope: Scope, places: &mut [u8]) -> Result<(), TantivyError> {
        let fields = self.fields;
        let all = [
            (fields.name, place::NAME, place::NEAR_NAME),
            (fields.name_prefix, place::NAME_PREFIX, 0),
            (fields.organization, place::ORGANIZATION, 0),
            (fields.keyword, place::KEYWORD, place::NEAR_OTHER),
            (fields.description, place::DESCRIPTION, place::NEAR_OTHER),
            (fields.docs, place::DOCS, place::NEAR_OTHER),
        ];
        let forgiving = scope.forgives() && forgives(word);
        for (field, at, near) in all.into_iter().take(if scope.only_names() { 3 } else { all.len() }) {
            let index = segment.inverted_index(field)?;
            // Beginnings longer than those that are indexed: the whole word is there.
            let part = if at == place::NAME_PREFIX { shortened(word) } else { word };
            let term = Term::from_field_text(field, part);
            if part.len() == word.len()
                && let Some(info) = index.get_term_info(&term)?
            {
                mark_postings(&index, &info, at, places)?;
            }
            if forgiving && near != 0 {
                let automaton = FuzzyTermQuery::new(term, 1, true).automaton()?;
                let dictionary: &TermDictionary = index.terms();
                let mut terms = dictionary.search(&automaton).into_stream()?;
                while terms.advance() {
                    mark_postings(&index, terms.value(), near, places)?;
                }
            }
        }
        Ok(())
    }
}

/// The longest beginning of a word that is indexed.
fn shortened(word: &str) -> &str {
    word.char_indices().nth(MAX_PREFIX).map_or(word, |(end, _)| &word[..end])
}

fn mark_postings(
    index: &tantivy::InvertedIndexReader,
    info: &tantivy::postings::TermInfo,
    place: u8,
    places: &mut [u8],
) -> Result<(), TantivyError> {
    let mut postings = index.read_block_postings_from_terminfo(info, IndexRecordOption::Basic)?;
    loop {
        let documents = postings.docs();
        if documents.is_empty() {
            return Ok(());
        }
        for document in documents {
            places[*document as usize] |= place;
        }
        postings.advance();
    }
}
