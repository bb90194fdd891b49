//! What one request may ask for. All of it is measured in one walk over the parsed document, before it is validated:
//! validating it is work, too. Tokens are counted before it is even parsed.

use std::collections::HashMap;

use async_graphql::parser::types::{
    Directive, ExecutableDocument, Field, OperationDefinition, Selection, SelectionSet,
};
use async_graphql::{Name, Positioned, ServerError, Value as ConstValue, Variables};

use super::error::server_error;
use crate::gateway::PAGE;
use crate::model::ErrorCode;

/// How deep fields lie in fields at most. A client's introspection query has 15.
pub const DEPTH: usize = 16;
/// How much a query costs at most: a field 1, docs 20, docsDiff 50, a pack's digest 100, a facet 20, an image that is
/// applied 10; what is in a list as often as the list is long.
pub const COMPLEXITY: usize = 10_000;
/// The most aliases.
pub const ALIASES: usize = 30;
/// The most fields of the operation itself.
pub const ROOT_FIELDS: usize = 20;
/// The most directives.
pub const DIRECTIVES: usize = 30;
/// The most tokens (names, numbers, strings, punctuation) of a document.
pub const TOKENS: usize = 4000;
/// The longest name, number or keyword, in bytes: what is none of ours is compared with all that are.
pub const NAME: usize = 256;
/// How deep braces, brackets and parentheses lie in one another at most: the parser, which calls itself for each, has the
/// stack of a thread.
pub const NESTING: usize = 64;
/// How deep an introspection's lists of fields and types lie in one another at most: each level is many times the one
/// before.
pub const INTROSPECTION_LISTS: usize = 2;
/// How much an introspection costs at most: a field 1, what is in a list as often as the list is long in a schema like
/// ours. A tool's whole introspection comes to a third of it.
pub const INTROSPECTION: usize = 250_000;
/// The most values in all variables together, lists and objects included.
pub const VALUES: usize = 50_000;
/// What one request may ask for.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "each is the constant of its name")]
pub struct Limits {
    pub depth: usize,
    pub complexity: usize,
    pub aliases: usize,
    pub root_fields: usize,
    pub directives: usize,
    pub tokens: usize,
    pub name: usize,
    pub nesting: usize,
    pub introspection_lists: usize,
    pub introspection: usize,
    pub values: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth: DEPTH,
            complexity: COMPLEXITY,
            aliases: ALIASES,
            root_fields: ROOT_FIELDS,
            directives: DIRECTIVES,
            tokens: TOKENS,
            name: NAME,
            nesting: NESTING,
            introspection_lists: INTROSPECTION_LISTS,
            introspection: INTROSPECTION,
            values: VALUES,
        }
    }
}

/// What a selection comes to. Measures of parts add up, so that each fragment is walked once, however often it is
/// spread.
#[derive(Debug, Clone, Copy, Default)]
struct Measure {
    depth: usize,
    /// The cost of all but what is in the items of a list.
    flat: usize,
    /// The cost of what is in `edges` and `nodes`: as often as the connection around it is long.
    items: usize,
    fields: usize,
    aliases: usize,
    directives: usize,
    introspection_lists: usize,
    /// What it would cost as a part of an introspection.
    schema: usize,
    /// What the introspections in it cost.
    introspection: usize,
    /// How many page sizes are no Int.
    outside: usize,
}

impl Measure {
    fn add(&mut self, other: Self) {
        self.depth = self.depth.max(other.depth);
        self.introspection_lists = self.introspection_lists.max(other.introspection_lists);
        self.flat = self.flat.saturating_add(other.flat);
        self.items = self.items.saturating_add(other.items);
        self.fields = self.fields.saturating_add(other.fields);
        self.aliases = self.aliases.saturating_add(other.aliases);
        self.directives = self.directives.saturating_add(other.directives);
        self.schema = self.schema.saturating_add(other.schema);
        self.introspection = self.introspection.saturating_add(other.introspection);
        self.outside = self.outside.saturating_add(other.outside);
    }
}

struct Walk<'a> {
    document: &'a ExecutableDocument,
    variables: &'a Variables,
    defaults: HashMap<&'a str, &'a ConstValue>,
    /// What each fragment comes to; `None` while it is walked: one that has itself in it is refused by validation.
    fragments: HashMap<&'a str, Option<Measure>>,
}

impl Limits {
    /// Checks the text of a document, before it is parsed.
    pub(super) fn check_text(&self, query: &str) -> Result<(), ServerError> {
        let text = measure_text(query, self.tokens);
        within("tokens", text.tokens, self.tokens, "the document has", "tokens")?;
        within("nesting", text.nesting, self.nesting, "braces and brackets lie in one another", "times")?;
        within("name", text.longest, self.name, "a name of the document has", "bytes")
    }

    /// Checks the variables that come with a document.
    pub(super) fn check_values(
        &self,
        variables: &serde_json::Map<String, serde_json::Value>,
    ) -> Result<(), ServerError> {
        let values = variables.values().map(count).fold(0, usize::saturating_add);
        within("values", values, self.values, "the variables have", "values")
    }

    /// Checks a document that is to be executed with `variables`.
    pub(super) fn check(&self, document: &ExecutableDocument, variables: &Variables) -> Result<(), ServerError> {
        for (_, operation) in document.operations.iter() {
            let measure = measure(document, &operation.node, variables);
            // Validation lets them through, and a field that isn't reached would hide them.
            if measure.outside > 0 {
                let message = format!("first and last are of the type Int: from {} to {}", i32::MIN, i32::MAX);
                return Err(server_error(ErrorCode::Invalid, message));
            }
            let cost = measure.flat.saturating_add(measure.items);
            within("root fields", measure.fields, self.root_fields, "the operation has", "fields")?;
            within("depth", measure.depth, self.depth, "the operation is", "levels deep")?;
            within("aliases", measure.aliases, self.aliases, "the operation has", "aliases")?;
            within("directives", measure.directives, self.directives, "the operation has", "directives")?;
            let lists = measure.introspection_lists;
            within(
                "introspection",
                lists,
                self.introspection_lists,
                "lists of the schema lie in one another",
                "times",
            )?;
            let introspection = measure.introspection;
            within("introspection cost", introspection, self.introspection, "its introspection costs", "points")?;
            within("complexity", cost, self.complexity, "the operation costs", "points")?;
        }
        Ok(())
    }
}

/// How many values a value is.
fn count(value: &serde_json::Value) -> usize {
    match value {
        serde_json::Value::Array(items) => items.iter().map(count).fold(1, usize::saturating_add),
        serde_json::Value::Object(fields) => fields.values().map(count).fold(1, usize::saturating_add),
        _ => 1,
    }
}

fn within(limit: &str, is: usize, most: usize, subject: &str, unit: &str) -> Result<(), ServerError> {
    if is <= most {
        return Ok(());
    }
    let message = format!("{subject} {is} {unit}; {most} is the most (limit: {limit})");
    Err(server_error(ErrorCode::LimitExceeded, message))
}

fn measure(document: &ExecutableDocument, operation: &OperationDefinition, variables: &Variables) -> Measure {
    let definitions = operation.variable_definitions.iter().map(|definition| &definition.node);
    let defaults =
        definitions.filter_map(|one| Some((one.name.node.as_str(), &one.default_value.as_ref()?.node))).collect();
    let mut walk = Walk { document, variables, defaults, fragments: HashMap::new() };
    let mut all = walk.selection(&operation.selection_set.node);
    all.directives = all.directives.saturating_add(directives(&operation.directives));
    for definition in &operation.variable_definitions {
        all.directives = all.directives.saturating_add(directives(&definition.node.directives));
    }
    // The fields at the top, not all.
    all.fields = walk.top_fields(&operation.selection_set.node, &mut HashMap::new());
    all
}

fn directives(all: &[Positioned<Directive>]) -> usize {
    all.len()
}

impl<'a> Walk<'a> {
    fn selection(&mut self, set: &'a SelectionSet) -> Measure {
        let mut all = Measure::default();
        for item in &set.items {
            all.directives = all.directives.saturating_add(directives(item.node.directives()));
            match &item.node {
                Selection::Field(field) => {
                    let field = self.field(&field.node);
                    all.add(field);
                }
                Selection::InlineFragment(fragment) => {
                    let inner = self.selection(&fragment.node.selection_set.node);
                    all.add(inner);
                }
                Selection::FragmentSpread(spread) => {
                    // Spreading nothing again and again is work, too.
                    all.flat = all.flat.saturating_add(1);
                    all.schema = all.schema.saturating_add(1);
                    let inner = self.fragment(&spread.node.fragment_name.node);
                    all.add(inner);
                }
            }
        }
        all
    }

    fn fragment(&mut self, name: &'a Name) -> Measure {
        if let Some(known) = self.fragments.get(name.as_str()) {
            return known.unwrap_or_default();
        }
        let Some(fragment) = self.document.fragments.get(name) else { return Measure::default() };
        self.fragments.insert(name, None);
        let mut measure = self.selection(&fragment.node.selection_set.node);
        measure.directives = measure.directives.saturating_add(directives(&fragment.node.directives));
        self.fragments.insert(name, Some(measure));
        measure
    }

    fn field(&mut self, field: &'a Field) -> Measure {
        let inner = self.selection(&field.selection_set.node);
        let name = field.name.node.as_str();
        let whole = inner.flat.saturating_add(inner.items);
        let own = match name {
            "docs" => 20,
            "docsDiff" => 50,
            "contentDigest" => 100,
            "applyImages" => 1 + 10 * self.length(field, "images").unwrap_or(1),
            _ => 1,
        };
        let mut measure = Measure {
            depth: inner.depth + 1,
            flat: own,
            items: 0,
            fields: inner.fields.saturating_add(1),
            aliases: inner.aliases.saturating_add(usize::from(field.alias.is_some())),
            directives: inner.directives,
            introspection_lists: inner.introspection_lists,
            schema: inner.schema.saturating_mul(members(name)).saturating_add(1),
            introspection: inner.introspection,
            outside: inner
                .outside
                .saturating_add(usize::from(self.is_outside(field, "first") || self.is_outside(field, "last"))),
        };
        // A list that is empty is measured as one of one: what is in it is validated all the same.
        let size = self.number(field, "first").or_else(|| self.number(field, "last")).map(|size| size.max(1));
        let cost = match name {
            "images" | "repositories" | "organizations" | "tags" => {
                inner.flat.saturating_add(inner.items.saturating_mul(size.unwrap_or(PAGE)))
            }
            "suggest" => whole.saturating_mul(size.unwrap_or(8)),
            "resolve" => whole.saturating_mul(self.length(field, "names").unwrap_or(1)),
            "nodes" if self.length(field, "ids").is_some() => {
                whole.saturating_mul(self.length(field, "ids").unwrap_or(1))
            }
            "edges" | "nodes" => {
                measure.items = whole;
                0
            }
            // A pack's names are known when it is read: as many as a page is assumed.
            "entries" => whole.saturating_mul(PAGE),
            "facets" => whole.saturating_add(inner.fields.saturating_mul(20)),
            "__schema" | "__type" => {
                measure.introspection = measure.introspection.saturating_add(inner.schema);
                whole
            }
            "fields" | "inputFields" | "interfaces" | "possibleTypes" => {
                measure.introspection_lists += 1;
                whole
            }
            _ => whole,
        };
        measure.flat = measure.flat.saturating_add(cost);
        measure
    }

    /// How many fields are at the top, those of spread fragments included.
    fn top_fields(&self, set: &'a SelectionSet, known: &mut HashMap<&'a str, usize>) -> usize {
        let mut count = 0usize;
        for item in &set.items {
            count = count.saturating_add(match &item.node {
                Selection::Field(_) => 1,
                Selection::InlineFragment(inline) => self.top_fields(&inline.node.selection_set.node, known),
                Selection::FragmentSpread(spread) => {
                    let name = &spread.node.fragment_name.node;
                    match (known.get(name.as_str()), self.document.fragments.get(name)) {
                        (Some(known), _) => *known,
                        (None, Some(fragment)) => {
                            known.insert(name, 0);
                            let fields = self.top_fields(&fragment.node.selection_set.node, known);
                            known.insert(name, fields);
                            fields
                        }
                        (None, None) => 0,
                    }
                }
            });
        }
        count
    }

    /// An argument, variables put in; of lists in variables only how long they are.
    fn argument(&self, field: &'a Field, argument: &str) -> Option<ConstValue> {
        let value = field.get_argument(argument)?.node.clone();
        let variable = |name: Name| {
            let value = self.variables.get(&name).or_else(|| self.defaults.get(name.as_str()).copied());
            Ok::<_, ()>(match value {
                Some(ConstValue::List(list)) => ConstValue::List(vec![ConstValue::Null; list.len()]),
                Some(ConstValue::Number(number)) => ConstValue::Number(number.clone()),
                _ => ConstValue::Null,
            })
        };
        value.into_const_with(variable).ok()
    }

    fn number(&self, field: &'a Field, argument: &str) -> Option<usize> {
        match self.argument(field, argument)? {
            ConstValue::Number(number) => number.as_u64().and_then(|number| usize::try_from(number).ok()),
            _ => None,
        }
    }

    /// Whether an argument is a number that is no Int.
    fn is_outside(&self, field: &'a Field, argument: &str) -> bool {
        match self.argument(field, argument) {
            Some(ConstValue::Number(number)) => number.as_i64().is_none_or(|number| i32::try_from(number).is_err()),
            _ => false,
        }
    }

    fn length(&self, field: &'a Field, argument: &str) -> Option<usize> {
        match self.argument(field, argument)? {
            ConstValue::List(list) => Some(list.len().max(1)),
            _ => Some(1),
        }
    }
}

/// How often what is in a field of an introspection is there, in a schema like ours.
fn members(field: &str) -> usize {
    match field {
        "types" => 100,
        "fields" => 6,
        "directives" => 8,
        "inputFields" | "enumValues" => 4,
        "args" => 2,
        _ => 1,
    }
}

/// What the text of a document comes to.
#[derive(Debug, Default, PartialEq, Eq)]
struct TextMeasure {
    tokens: usize,
    /// How deep braces, brackets and parentheses lie in one another.
    nesting: usize,
    /// The length of the longest word.
    longest: usize,
}

/// Measures a document; beyond `most` tokens no further. What is no token is left to the parser.
fn measure_text(query: &str, most: usize) -> TextMeasure {
    let bytes = query.as_bytes();
    let (mut at, mut depth, mut text) = (0, 0_usize, TextMeasure::default());
    while at < bytes.len() && text.tokens <= most {
        let token = match bytes[at] {
            b' ' | b'\t' | b'\n' | b'\r' | b',' => {
                at += 1;
                continue;
            }
            b'#' => {
                at += bytes[at..].iter().position(|b| *b == b'\n').unwrap_or(bytes.len() - at);
                continue;
            }
            b'"' => string(&bytes[at..]),
            b'.' if bytes[at..].starts_with(b"...") => 3,
            b if b.is_ascii_alphanumeric() || b == b'_' || b == b'-' => {
                let word = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'+' | b'-');
                let length = bytes[at..].iter().take_while(|b| word(b)).count();
                text.longest = text.longest.max(length);
                length
            }
            b'{' | b'[' | b'(' => {
                depth += 1;
                text.nesting = text.nesting.max(depth);
                1
            }
            b'}' | b']' | b')' => {
                depth = depth.saturating_sub(1);
                1
            }
            _ => 1,
        };
        text.tokens += 1;
        at += token;
    }
    text
}

/// How long the string is that `bytes` begin with.
fn string(bytes: &[u8]) -> usize {
    let (quote, mut at) = if bytes.starts_with(b"\"\"\"") { (&b"\"\"\""[..], 3) } else { (&b"\""[..], 1) };
    while at < bytes.len() {
        if bytes[at..].starts_with(quote) {
            return at + quote.len();
        }
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use async_graphql::parser::parse_query;
    use serde_json::json;

    use super::*;

    fn check_with(query: &str, variables: serde_json::Value) -> Result<(), String> {
        let limits = Limits::default();
        limits.check_text(query).map_err(|error| error.message)?;
        let document = parse_query(query).unwrap();
        limits.check(&document, &Variables::from_json(variables)).map_err(|error| error.message)
    }

    fn check(query: &str) -> Result<(), String> {
        check_with(query, json!({}))
    }

    fn nested(depth: usize) -> String {
        let mut query = "name".to_owned();
        for _ in 1..depth {
            query = format!("a {{ {query} }}");
        }
        format!("{{ {query} }}")
    }

    #[test]
    fn depth_is_allowed_up_to_its_limit() {
        check(&nested(DEPTH)).unwrap();
        let refused = check(&nested(DEPTH + 1)).unwrap_err();
        assert_eq!(refused, "the operation is 17 levels deep; 16 is the most (limit: depth)");
    }

    #[test]
    fn depth_is_counted_through_fragments() {
        let inner = nested(DEPTH - 1);
        check(&format!("{{ a {{ ...f }} }} fragment f on A {inner}")).unwrap();
        let inner = nested(DEPTH);
        assert!(check(&format!("{{ a {{ ...f }} }} fragment f on A {inner}")).unwrap_err().contains("limit: depth"));
    }

    #[test]
    fn aliases_are_allowed_up_to_their_limit() {
        let with = |n: usize| {
            let aliases = (0..n).map(|i| format!("x{i}: name ")).collect::<Vec<_>>().concat();
            check(&format!("{{ image {{ {aliases} }} }}"))
        };
        with(ALIASES).unwrap();
        assert_eq!(with(ALIASES + 1).unwrap_err(), "the operation has 31 aliases; 30 is the most (limit: aliases)");
    }

    #[test]
    fn root_fields_are_allowed_up_to_their_limit_fragments_included() {
        let fields = |n: usize| "viewer{name} ".repeat(n);
        check(&format!("{{ {} }}", fields(ROOT_FIELDS))).unwrap();
        let refused = check(&format!("{{ {} }}", fields(ROOT_FIELDS + 1))).unwrap_err();
        assert_eq!(refused, "the operation has 21 fields; 20 is the most (limit: root fields)");
        let half = fields(ROOT_FIELDS / 2);
        check(&format!("{{ {half} ...f }} fragment f on Query {{ {half} }}")).unwrap();
        let refused = check(&format!("{{ {half} keywords ...f }} fragment f on Query {{ {half} }}")).unwrap_err();
        assert!(refused.contains("limit: root fields"));
    }

    #[test]
    fn directives_are_allowed_up_to_their_limit_wherever_they_are() {
        let with = |n: usize| check(&format!("{{ image {{ name {} }} }}", "@skip(if: false) ".repeat(n)));
        with(DIRECTIVES).unwrap();
        assert_eq!(
            with(DIRECTIVES + 1).unwrap_err(),
            "the operation has 31 directives; 30 is the most (limit: directives)"
        );
        let spread = |n: usize| {
            let each = "...f ".repeat(n);
            check(&format!("{{ image {{ {each} }} }} fragment f on Image {{ name @skip(if: false) }}"))
        };
        spread(DIRECTIVES).unwrap();
        assert!(spread(DIRECTIVES + 1).unwrap_err().contains("limit: directives"));
    }

    #[test]
    fn tokens_are_allowed_up_to_their_limit() {
        let with = |n: usize| check(&format!("{{ image {{ {} }} }}", "name ".repeat(n - 5)));
        with(TOKENS).unwrap();
        assert_eq!(with(TOKENS + 1).unwrap_err(), "the document has 4001 tokens; 4000 is the most (limit: tokens)");
        let text = measure_text("{ a(b: \"c d \\\" e\", f: \"\"\"g \" h\"\"\") # i j\n ...kk }", 100);
        assert_eq!(text, TextMeasure { tokens: 13, nesting: 2, longest: 2 });
    }

    #[test]
    fn complexity_is_allowed_up_to_its_limit() {
        // 1 + 1 + 100 * (1 + the fields).
        let list = |fields: &str| check(&format!("{{ repositories(first: 100) {{ nodes {{ {fields} }} }} }}"));
        // 1 + nodes 1 + 100 * 99 = 9902.
        list(&"name ".repeat(99)).unwrap();
        let refused = list(&"name ".repeat(100)).unwrap_err();
        assert_eq!(refused, "the operation costs 10002 points; 10000 is the most (limit: complexity)");
        // Just at the limit, and one over it: the rest are flat fields.
        let flat = |n: usize| {
            let nodes = "name ".repeat(99);
            let info = "hasNextPage ".repeat(n);
            check(&format!("{{ repositories(first: 100) {{ nodes {{ {nodes} }} pageInfo {{ {info} }} }} }}"))
        };
        flat(97).unwrap();
        assert!(flat(98).unwrap_err().contains("costs 10001 points"));
    }

    #[test]
    fn lists_count_by_their_variables_and_docs_by_their_size() {
        let query = "query($n: Int = 100) { repositories(first: $n) { nodes { latestImage { docs name } } } }";
        check_with(query, json!({ "n": 20 })).unwrap();
        check(query).unwrap();
        let nested =
            "query($n: Int = 100) { repositories(first: $n) { nodes { tags(first: 10) { nodes { docs } } } } }";
        assert!(check(nested).unwrap_err().contains("limit: complexity"));
        check_with(nested, json!({ "n": 10 })).unwrap();
    }

    #[test]
    fn a_page_size_that_is_no_int_is_refused_where_it_is_not_reached_too() {
        let of = |size: &str| {
            check(&format!("{{ node(id: 1) {{ ... on Repository {{ tags(first: {size}) {{ totalCount }} }} }} }}"))
        };
        of("2147483647").unwrap();
        of("-2147483648").unwrap();
        for size in ["2147483648", "-2147483649", "26491433644", "1e99", "1.5"] {
            let refused = of(size).unwrap_err();
            assert_eq!(refused, "first and last are of the type Int: from -2147483648 to 2147483647", "{size}");
        }
        let variable = "query($n: Int) { organizations(last: $n) { totalCount } }";
        assert!(check_with(variable, json!({ "n": 2_147_483_648_i64 })).is_err());
    }

    #[test]
    fn fragments_that_double_each_other_are_measured_once_and_refused() {
        let fragment = |i: u8| format!("fragment f{i} on Image {{ ...f{} ...f{} }} ", i + 1, i + 1);
        let fragments = (0..60).map(fragment).collect::<Vec<_>>().concat();
        let query = format!("{{ image {{ ...f0 }} }} {fragments} fragment f60 on Image {{ name }}");
        assert!(check(&query).unwrap_err().contains("limit: complexity"));
    }

    /// Fragments of which each has the next twice, sixty of them, and what the last one has.
    fn doubling(on: &str, last: &str) -> String {
        let fragment = |i: u8| format!("fragment f{i} on {on} {{ ...f{} ...f{} }} ", i + 1, i + 1);
        let fragments = (0..60).map(fragment).collect::<Vec<_>>().concat();
        format!("{fragments} fragment f60 on {on} {{ {last} }}")
    }

    #[test]
    fn fragments_that_double_each_other_are_refused_where_nothing_is_asked_for_too() {
        let image = doubling("Image", "name");
        for query in [
            "{ images(first: 0) { nodes { ...f0 } } }",
            "{ images(last: 0) { edges { node { ...f0 } } } }",
            "{ nodes(ids: []) { ...f0 } }",
            "{ resolve(names: []) { image { ...f0 } } }",
            "{ suggest(text: \"a\", first: 0) { node { ...f0 } } }",
        ] {
            let refused = check(&format!("{query} {image}")).unwrap_err();
            assert!(refused.contains("limit: complexity"), "{query}: {refused}");
        }
        // Without a single field, too.
        let facets = doubling("RepositoryFacets", "...nowhere");
        let refused = check(&format!("{{ repositories {{ facets {{ ...f0 }} }} }} {facets}")).unwrap_err();
        assert!(refused.contains("limit: complexity"), "{refused}");
    }

    #[test]
    fn nesting_is_allowed_up_to_its_limit() {
        let of = |depth: usize| {
            let limits = Limits::default();
            let (open, close) = ("[".repeat(depth - 2), "]".repeat(depth - 2));
            limits.check_text(&format!("{{ a(b: {open}{close}) }}")).map_err(|error| error.message)
        };
        of(NESTING).unwrap();
        let refused = of(NESTING + 1).unwrap_err();
        assert_eq!(refused, "braces and brackets lie in one another 65 times; 64 is the most (limit: nesting)");
    }

    #[test]
    fn names_are_allowed_up_to_their_limit() {
        let of = |length: usize| {
            let limits = Limits::default();
            limits.check_text(&format!("{{ {} }}", "a".repeat(length))).map_err(|error| error.message)
        };
        of(NAME).unwrap();
        assert_eq!(of(NAME + 1).unwrap_err(), "a name of the document has 257 bytes; 256 is the most (limit: name)");
    }

    #[test]
    fn values_of_variables_are_allowed_up_to_their_limit() {
        let of = |count: usize| {
            let variables = json!({ "a": [1, { "b": vec![0; count - 4] }] });
            let checked = Limits::default().check_values(variables.as_object().unwrap());
            checked.map_err(|error| error.message)
        };
        of(VALUES).unwrap();
        assert_eq!(of(VALUES + 1).unwrap_err(), "the variables have 50001 values; 50000 is the most (limit: values)");
    }

    #[test]
    fn a_fragment_in_itself_ends() {
        check("{ image { ...f } } fragment f on Image { repository { latestImage { ...f } } }").unwrap();
    }

    #[test]
    fn introspection_may_not_multiply_itself() {
        check("{ __type(name: \"Image\") { fields { type { fields { name } } } } }").unwrap();
        let refused = check("{ __type(name: \"Image\") { fields { type { fields { type { fields { name } } } } } } }");
        assert!(refused.unwrap_err().contains("(limit: introspection)"));
        // types 1 + 100 * (fields 1 + 6 * n).
        let of =
            |names: usize| check(&format!("{{ __schema {{ types {{ fields {{ {} }} }} }} }}", "name ".repeat(names)));
        of(416).unwrap();
        let refused = of(417).unwrap_err();
        assert_eq!(refused, "its introspection costs 250301 points; 250000 is the most (limit: introspection cost)");
    }

    #[test]
    fn introspection_may_not_be_repeated_without_end() {
        let whole = include_str!("tests/introspection.graphql");
        check(whole).unwrap();
        let types = "__schema { types { ...FullType } }";
        let more = (0..10).map(|i| format!("a{i}: {types} ")).collect::<Vec<_>>().concat();
        let repeated = whole.replacen("__schema", &format!("{more} __schema"), 1);
        assert!(check(&repeated).unwrap_err().contains("(limit: introspection cost)"));
    }
}
