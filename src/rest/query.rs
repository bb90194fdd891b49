//! The query of a request, read by the table of its parameters: what is in no table is refused, so that a filter that is
//! misspelt doesn't answer with everything.

use axum::extract::Query;
use http::{StatusCode, Uri};
use jiff::Timestamp;

use super::contract::{Parameter, Sort};
use super::problem::Problem;
use crate::gateway::FILTER_VALUES;
use crate::model::{ErrorCode, Fault};

/// How much of a wrong value is repeated, in characters.
const SHOWN: usize = 128;

/// What a query says, fit for its table.
#[derive(Debug, Default)]
pub(super) struct Params(Vec<(&'static str, String)>);

fn wrong(name: &str, message: String) -> Problem {
    Problem::parameter(StatusCode::BAD_REQUEST, name, Fault::new(ErrorCode::Invalid, message))
}

fn shown(value: &str) -> String {
    value.chars().take(SHOWN).collect()
}

impl Params {
    /// Reads the query of `uri`.
    pub(super) fn read(uri: &Uri, known: &'static [Parameter]) -> Result<Self, Problem> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(uri);
        let Query(pairs) =
            pairs.map_err(|_| Problem::unreadable("the query can't be read: it must be form-urlencoded UTF-8"))?;
        let mut read = Vec::with_capacity(pairs.len());
        for (name, value) in pairs {
            let Some(parameter) = known.iter().find(|parameter| parameter.name == name) else {
                let names: Vec<&str> = known.iter().map(|parameter| parameter.name).collect();
                let what = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
                let message = format!("there is no such parameter here; there is {what}");
                return Err(wrong(&shown(&name), message));
            };
            check(parameter, &value)?;
            let times = read.iter().filter(|(name, _)| *name == parameter.name).count();
            let repeats = matches!(parameter.sort, Sort::Texts(_) | Sort::Words(_));
            if times > 0 && !repeats {
                return Err(wrong(parameter.name, "it is there twice".to_owned()));
            }
            if times >= FILTER_VALUES {
                let message = format!("there are more than {FILTER_VALUES} values (limit: filter values)");
                let fault = Fault::new(ErrorCode::LimitExceeded, message);
                return Err(Problem::parameter(StatusCode::BAD_REQUEST, parameter.name, fault));
            }
            read.push((parameter.name, value));
        }
        let missing = known.iter().find(|one| one.required && !read.iter().any(|(name, _)| *name == one.name));
        match missing {
            Some(missing) => Err(wrong(missing.name, "it is required".to_owned())),
            None => Ok(Self(read)),
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }

    /// All values of this name; `None` where there is none.
    pub(super) fn all(&self, name: &str) -> Option<Vec<&str>> {
        let values: Vec<&str> = self.0.iter().filter(|(known, _)| *known == name).map(|(_, v)| v.as_str()).collect();
        (!values.is_empty()).then_some(values)
    }

    pub(super) fn number(&self, name: &str) -> Option<i32> {
        self.get(name)?.parse().ok()
    }

    pub(super) fn flag(&self, name: &str) -> Option<bool> {
        self.get(name).map(|value| value == "true")
    }

    pub(super) fn time(&self, name: &str) -> Option<Timestamp> {
        self.get(name)?.parse().ok()
    }
}

fn check(parameter: &Parameter, value: &str) -> Result<(), Problem> {
    let name = parameter.name;
    match parameter.sort {
        Sort::Text(longest) | Sort::Texts(longest) => {
            // As a schema's maxLength counts.
            let length = value.chars().count();
            if length > longest {
                let message = format!("it has {length} characters; {longest} is the most (limit: {name})");
                let fault = Fault::new(ErrorCode::LimitExceeded, message);
                return Err(Problem::parameter(StatusCode::BAD_REQUEST, name, fault));
            }
            if parameter.required && value.is_empty() {
                return Err(wrong(name, "it is empty".to_owned()));
            }
        }
        Sort::Word(words) | Sort::Words(words) => {
            if !words.contains(&value) {
                let words: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
                return Err(wrong(name, format!("{:?} is none of {}", shown(value), words.join(", "))));
            }
        }
        Sort::Number(least, most, _) => {
            let number = Some(value).filter(|value| value.bytes().all(|b| b.is_ascii_digit()));
            let number = number.and_then(|value| value.parse::<usize>().ok());
            if number.is_none_or(|number| number < least || number > most) {
                let message = format!("{:?} is no whole number from {least} to {most}", shown(value));
                return Err(wrong(name, message));
            }
        }
        Sort::Flag => {
            if !matches!(value, "true" | "false") {
                return Err(wrong(name, format!("{:?} is neither true nor false", shown(value))));
            }
        }
        Sort::Revision => {
            if value.is_empty() || value.len() > 19 || !value.bytes().all(|b| b.is_ascii_digit()) {
                let message = format!("{:?} is no revision, a decimal number that an answer gave", shown(value));
                return Err(wrong(name, message));
            }
        }
        Sort::Time => {
            if value.parse::<Timestamp>().is_err() {
                let message = format!("{:?} is no time of RFC 3339, as in 2024-05-01T12:00:00Z", shown(value));
                return Err(wrong(name, message));
            }
        }
    }
    Ok(())
}
