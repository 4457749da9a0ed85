//! Label queries in the Kubernetes syntax: `role=web,region in (eu,us),env!=dev,canary,!legacy`.
//! Requirements are joined by "and"; an empty selector takes every host.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::limits::{SELECTOR_MAX_BYTES, SELECTOR_TERMS_MAX};
use crate::name::{Label, Labels, NameError};

/// Letters that a mistyped label may have wrong.
const SLIPS_MAX: usize = 2;

/// A parsed label query.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Selector(Vec<Term>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Term {
    In(Label, BTreeSet<Label>),
    NotIn(Label, BTreeSet<Label>),
    Has(Label),
    Lacks(Label),
}

/// Why a text is no selector.
#[derive(Debug, Clone, thiserror::Error, PartialEq, Eq)]
pub enum SelectorError {
    /// Longer than 4 KiB, or more than 64 requirements.
    #[error("read a selector: at most 4096 bytes and 64 requirements")]
    TooLong,
    /// A requirement in none of the known forms.
    #[error(
        "read selector part {0:?}: want key=value, key!=value, key in (a,b), key notin (a,b), key or !key"
    )]
    Form(String),
    /// A key or value that is no label.
    #[error("read selector part {part:?}")]
    Label {
        /// The requirement.
        part: String,
        /// What is wrong with the label.
        #[source]
        source: NameError,
    },
}

impl Selector {
    /// Whether a host with these labels is taken.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|term| match term {
            Term::In(key, values) => value_in(labels, key, values),
            Term::NotIn(key, values) => !value_in(labels, key, values),
            Term::Has(key) => labels.get(key.as_str()).is_some(),
            Term::Lacks(key) => labels.get(key.as_str()).is_none(),
        })
    }

    /// Labels that a host needs to be taken, for fleets that are made up. Where several values would
    /// do, `turn` chooses. Where two requirements contradict each other the labels are not taken.
    #[must_use]
    pub fn example(&self, turn: usize) -> BTreeMap<Label, Label> {
        let mut labels = BTreeMap::new();
        let fits = |key: &Label, value: &Label| {
            self.0.iter().all(|term| match term {
                Term::In(other, values) if other == key => values.contains(value),
                Term::NotIn(other, values) if other == key => !values.contains(value),
                Term::In(..) | Term::NotIn(..) | Term::Has(_) | Term::Lacks(_) => true,
            })
        };
        for term in &self.0 {
            match term {
                Term::In(key, values) => {
                    let fitting: Vec<&Label> = values.iter().filter(|v| fits(key, v)).collect();
                    let at = turn.checked_rem(fitting.len()).unwrap_or(0);
                    labels.extend(fitting.get(at).map(|value| (key.clone(), (*value).clone())));
                }
                Term::Has(key) if !labels.contains_key(key) => {
                    labels.insert(key.clone(), key.clone());
                }
                Term::Has(_) | Term::NotIn(..) | Term::Lacks(_) => {}
            }
        }
        labels
    }

    /// Where no host has what a requirement asks for: the label of a host that is written nearly so, as
    /// `key=value`. For the sentence "did you mean".
    pub fn meant<'a>(&self, hosts: impl Iterator<Item = &'a Labels> + Clone) -> Option<String> {
        let asked = self.0.iter().filter_map(|term| match term {
            Term::In(key, values) => Some((key, values)),
            Term::NotIn(..) | Term::Has(_) | Term::Lacks(_) => None,
        });
        let mut unmet =
            asked.filter(|(key, values)| !hosts.clone().any(|has| value_in(has, key, values)));
        unmet.find_map(|(key, values)| {
            let wanted = values.iter().map(|value| format!("{key}={value}"));
            let there = hosts.clone().flat_map(Labels::iter).map(|(k, v)| format!("{k}={v}"));
            let there: BTreeSet<String> = there.collect();
            let near = |(wanted, there): &(String, &String)| slips(wanted, there);
            let pairs = wanted.flat_map(|wanted| there.iter().map(move |t| (wanted.clone(), t)));
            let found = pairs.filter_map(|pair| Some((near(&pair)?, pair.1.clone()))).min();
            found.map(|(_, label)| label)
        })
    }

    /// The labels that a host must have to be taken: each key, with the values that would do, or none where
    /// any would.
    pub fn wanted(&self) -> impl Iterator<Item = (&str, Vec<&str>)> {
        self.0.iter().filter_map(|term| match term {
            Term::In(key, values) => {
                Some((key.as_str(), values.iter().map(Label::as_str).collect()))
            }
            Term::Has(key) => Some((key.as_str(), Vec::new())),
            Term::NotIn(..) | Term::Lacks(_) => None,
        })
    }

    /// Whether it takes every host because it asks for nothing.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }
}

/// The one of these names that is written nearly as `wanted` is: for the sentence "did you mean".
pub fn nearest<'a>(wanted: &str, there: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let far = |name: &'a str| Some((slips(wanted, name)?, name));
    there.filter_map(far).min().map(|(_, name)| name)
}

/// How many slips of the pen lie between two texts; `None` where they are too many.
fn slips(wanted: &str, there: &str) -> Option<usize> {
    // Of a short word nearly everything is two letters away.
    let most = SLIPS_MAX.min(wanted.chars().count() / 2).max(1);
    Some(strsim::damerau_levenshtein(wanted, there)).filter(|far| *far <= most)
}

fn value_in(labels: &Labels, key: &Label, values: &BTreeSet<Label>) -> bool {
    labels
        .get(key.as_str())
        .is_some_and(|value| values.iter().any(|wanted| wanted.as_str() == value))
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        if text.len() > SELECTOR_MAX_BYTES {
            return Err(SelectorError::TooLong);
        }
        let terms: Vec<Term> = split_outside_parentheses(text)
            .into_iter()
            .map(str::trim)
            .enumerate()
            .filter(|(at, part)| *at > 0 || !part.is_empty())
            .map(|(_, part)| term(part))
            .collect::<Result<_, _>>()?;
        if terms.len() > SELECTOR_TERMS_MAX {
            return Err(SelectorError::TooLong);
        }
        let selector = Self(terms);
        // The printed form is what is kept, so it must be readable again.
        if selector.to_string().len() > SELECTOR_MAX_BYTES {
            return Err(SelectorError::TooLong);
        }
        Ok(selector)
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut open) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        match c {
            '(' => open = true,
            ')' => open = false,
            ',' if !open => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn term(part: &str) -> Result<Term, SelectorError> {
    let label = |text: &str| {
        text.trim()
            .parse::<Label>()
            .map_err(|source| SelectorError::Label { part: part.to_owned(), source })
    };
    let one = |text: &str| label(text).map(|value| BTreeSet::from([value]));
    if let Some((key, value)) = part.split_once("!=") {
        return Ok(Term::NotIn(label(key)?, one(value)?));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Term::In(label(key)?, one(value)?));
    }
    if let Some(list) = part.strip_suffix(')') {
        let (head, values) = list.split_once('(').ok_or_else(|| form(part))?;
        let values = values.split(',').map(label).collect::<Result<_, _>>()?;
        let (key, word) = head.trim().split_once(' ').ok_or_else(|| form(part))?;
        return match word.trim() {
            "in" => Ok(Term::In(label(key)?, values)),
            "notin" => Ok(Term::NotIn(label(key)?, values)),
            _ => Err(form(part)),
        };
    }
    match part.strip_prefix('!') {
        Some(key) => Ok(Term::Lacks(label(key)?)),
        None if part.is_empty() || part.contains(['(', ' ']) => Err(form(part)),
        None => Ok(Term::Has(label(part)?)),
    }
}

fn form(part: &str) -> SelectorError {
    SelectorError::Form(part.chars().take(80).collect())
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "," })?;
            match term {
                Term::In(key, values) => write_values(f, key, values, "=", "in")?,
                Term::NotIn(key, values) => write_values(f, key, values, "!=", "notin")?,
                Term::Has(key) => write!(f, "{key}")?,
                Term::Lacks(key) => write!(f, "!{key}")?,
            }
        }
        Ok(())
    }
}

fn write_values(
    f: &mut fmt::Formatter<'_>,
    key: &Label,
    values: &BTreeSet<Label>,
    sign: &str,
    word: &str,
) -> fmt::Result {
    let list: Vec<&str> = values.iter().map(Label::as_str).collect();
    match list.as_slice() {
        [value] => write!(f, "{key}{sign}{value}"),
        list => write!(f, "{key} {word} ({})", list.join(",")),
    }
}

impl TryFrom<String> for Selector {
    type Error = SelectorError;

    fn try_from(text: String) -> Result<Self, SelectorError> {
        text.parse()
    }
}

impl From<Selector> for String {
    fn from(selector: Selector) -> String {
        selector.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(selector: &str, labels: &str) -> bool {
        let selector: Selector = selector.parse().expect(selector);
        let again: Selector = selector.to_string().parse().expect("printed form reads back");
        assert_eq!(again, selector);
        selector.matches(&labels.parse().expect(labels))
    }

    #[test]
    fn every_form_takes_and_leaves() {
        for (selector, taken, left) in [
            ("role=web", "role=web", "role=db"),
            ("role==web", "role=web,x=y", "x=y"),
            ("env!=dev", "env=prod", "env=dev"),
            ("region in (eu, us)", "region=us", "region=asia"),
            ("region notin (eu,us)", "region=asia", "region=eu"),
            ("canary", "canary=yes", "role=web"),
            ("!canary", "role=web", "canary=yes"),
            (
                "role=web,region in (eu,us),env!=dev",
                "role=web,region=eu",
                "role=web,region=eu,env=dev",
            ),
        ] {
            assert!(takes(selector, taken), "{selector} takes {taken}");
            assert!(!takes(selector, left), "{selector} leaves {left}");
        }
        assert!(takes("", ""), "an empty selector takes every host");
    }

    #[test]
    fn a_host_with_the_labels_of_an_example_is_taken() {
        for text in ["", "role=web", "canary,role in (a,b)", "role in (a,b),role!=a", "!x,y!=z"] {
            let selector: Selector = text.parse().expect(text);
            for turn in 0..3 {
                let labels = Labels::try_from(selector.example(turn)).expect(text);
                assert!(selector.matches(&labels), "{text}: {labels}");
            }
        }
        let spread: Selector = "region in (eu,us)".parse().expect("a selector");
        assert_ne!(spread.example(0), spread.example(1), "every value has its turn");
        let torn: Selector = "a=b,a=c".parse().expect("a selector");
        assert!(!torn.matches(&Labels::try_from(torn.example(0)).expect("labels")));
    }

    #[test]
    fn what_is_no_selector_is_refused() {
        for bad in
            ["role=", "=web", "a b", "x in", "x in (", "x in a,b)", "a,,b", "a,", "!", "x on (a)"]
        {
            assert!(bad.parse::<Selector>().is_err(), "{bad}");
        }
        assert_eq!("a,".repeat(4096).parse::<Selector>(), Err(SelectorError::TooLong));
    }
}
