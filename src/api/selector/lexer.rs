//! The words of a label selector, split as kube's lexer splits them.

/// What kind of word it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    End,
    Open,
    Close,
    Comma,
    Not,
    Equals,
    DoubleEquals,
    NotEquals,
    Greater,
    Less,
    In,
    NotIn,
    Word,
}

/// A word and its text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub(super) kind: Kind,
    pub(super) text: &'a str,
}

impl Token<'_> {
    /// Its kind where a key or a value may stand: there, `in` and `notin` are words like any other.
    pub(super) fn as_value(&self) -> Kind {
        if matches!(self.kind, Kind::In | Kind::NotIn) { Kind::Word } else { self.kind }
    }
}

/// The words that are left of a selector. After the last one comes [`Kind::End`], for ever.
pub(super) struct Lexer<'a> {
    rest: &'a str,
    next: Token<'a>,
}

impl<'a> Lexer<'a> {
    pub(super) fn new(selector: &'a str) -> Self {
        let mut lexer = Self { rest: selector, next: Token { kind: Kind::End, text: "" } };
        lexer.take();
        lexer
    }

    /// The next word, left where it is.
    pub(super) fn peek(&self) -> Token<'a> {
        self.next
    }

    /// The next word, taken.
    pub(super) fn take(&mut self) -> Token<'a> {
        let taken = self.next;
        let text = self.rest.trim_start_matches([' ', '\t', '\r', '\n']);
        let (kind, len) = match text.as_bytes() {
            [] => (Kind::End, 0),
            [b'=', b'=', ..] => (Kind::DoubleEquals, 2),
            [b'!', b'=', ..] => (Kind::NotEquals, 2),
            [b'=', ..] => (Kind::Equals, 1),
            [b'!', ..] => (Kind::Not, 1),
            [b'(', ..] => (Kind::Open, 1),
            [b')', ..] => (Kind::Close, 1),
            [b',', ..] => (Kind::Comma, 1),
            [b'>', ..] => (Kind::Greater, 1),
            [b'<', ..] => (Kind::Less, 1),
            _ => {
                let ends = [' ', '\t', '\r', '\n', '=', '!', '(', ')', ',', '>', '<'];
                let len = text.find(ends).unwrap_or(text.len());
                let kind = match &text[..len] {
                    "in" => Kind::In,
                    "notin" => Kind::NotIn,
                    _ => Kind::Word,
                };
                (kind, len)
            }
        };
        let (text, rest) = text.split_at(len);
        self.next = Token { kind, text };
        self.rest = rest;
        taken
    }
}
