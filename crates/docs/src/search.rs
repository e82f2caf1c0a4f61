//! Full-text search over the pages of a site.
//!
//! An index of words is made with the page and put into it: each word with the pages that hold it, weighed once and for all
//! by where it stands (title, path, headings, text), how often, and how long the page is; a question adds how rare its words
//! are (BM25 over weighted fields). Every word of it must be found, as a whole or as the start of one; what is found as a
//! whole weighs more. The script in the page ([`crate::html`]) asks the same index in the same way as [`Index::find`] does.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::page::{Page, markdown::Body};

/// How much a word weighs by where it stands.
const TITLE: f64 = 8.0;
const PATH: f64 = 6.0;
const HEADING: f64 = 3.0;
/// Where repetition stops to count, and how much length does: the usual values.
const K1: f64 = 1.2;
const B: f64 = 0.75;
/// A start of a word counts this much of the word.
pub(crate) const PREFIX: f64 = 0.6;
/// Longer words are cut: they are tokens and digests.
const WORD_MAX: usize = 32;
/// More words of a question are not looked at.
const QUESTION_MAX: usize = 16;

/// Words, and the pages that hold them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Index {
    /// How many pages there are.
    #[serde(rename = "n")]
    count: usize,
    /// The words, sorted.
    #[serde(rename = "w")]
    words: Vec<String>,
    /// For each word: page, weight in hundredths, page, weight, …
    #[serde(rename = "p")]
    postings: Vec<Vec<u32>>,
}

/// A page that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Which page, in the order of the site.
    pub page: usize,
    /// How well it fits; only to compare with others.
    pub score: u32,
}

/// Lower-case words of letters and digits.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|character: char| !character.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| word.chars().flat_map(char::to_lowercase).take(WORD_MAX).collect())
}

impl Index {
    /// The index of pages with their bodies.
    pub fn of(pages: &[Page], bodies: &[Body]) -> Self {
        let mut weights: BTreeMap<String, BTreeMap<usize, f64>> = BTreeMap::new();
        let mut lengths = vec![0.0; pages.len()];
        for (number, (page, body)) in pages.iter().zip(bodies).enumerate() {
            let fields = [
                (page.title.as_str(), TITLE),
                (page.path.as_deref().unwrap_or_default(), PATH),
                (page.category.as_deref().unwrap_or_default(), HEADING),
                (page.method.map_or("", |method| method.name()), HEADING),
                (body.headings.as_str(), HEADING),
                (body.text.as_str(), 1.0),
            ];
            for (text, weight) in fields {
                for word in words(text) {
                    *weights.entry(word).or_default().entry(number).or_default() += weight;
                    lengths[number] += 1.0;
                }
            }
        }
        let count = pages.len() as f64;
        let mean = (lengths.iter().sum::<f64>() / count.max(1.0)).max(1.0);
        let mut index = Self {
            count: pages.len(),
            ..Self::default()
        };
        for (word, pages) in weights {
            let mut posting = Vec::with_capacity(pages.len() * 2);
            for (page, weight) in pages {
                let damped = weight * (K1 + 1.0) / (weight + K1 * (1.0 - B + B * lengths[page] / mean));
                posting.push(u32::try_from(page).unwrap_or(u32::MAX));
                posting.push(hundredths(damped));
            }
            index.words.push(word);
            index.postings.push(posting);
        }
        index
    }

    /// The pages that hold every word of a question, the best first.
    pub fn find(&self, question: &str) -> Vec<Hit> {
        let mut found: Option<BTreeMap<u32, f64>> = None;
        for word in words(question).take(QUESTION_MAX) {
            let pages = self.pages_of(&word);
            found = Some(match found {
                None => pages,
                Some(found) => found
                    .into_iter()
                    .filter_map(|(page, score)| pages.get(&page).map(|more| (page, score + more)))
                    .collect(),
            });
        }
        let mut hits: Vec<_> = found
            .unwrap_or_default()
            .into_iter()
            .map(|(page, score)| Hit {
                page: page as usize,
                score: hundredths(score / 100.0),
            })
            .collect();
        hits.sort_by_key(|hit| (std::cmp::Reverse(hit.score), hit.page));
        hits
    }

    /// For each page the weight of the best word that is this one or starts with it, times how rare such pages are.
    fn pages_of(&self, word: &str) -> BTreeMap<u32, f64> {
        let mut pages: BTreeMap<u32, f64> = BTreeMap::new();
        let start = self.words.partition_point(|known| known.as_str() < word);
        for (known, posting) in self.words[start..].iter().zip(&self.postings[start..]) {
            if !known.starts_with(word) {
                break;
            }
            let factor = if known == word { 1.0 } else { PREFIX };
            for pair in posting.chunks_exact(2) {
                let score = f64::from(pair[1]) * factor;
                let best = pages.entry(pair[0]).or_default();
                *best = best.max(score);
            }
        }
        let (count, held) = (self.count as f64, pages.len() as f64);
        let rare = ((count - held + 0.5) / (held + 0.5)).ln_1p();
        for score in pages.values_mut() {
            *score *= rare;
        }
        pages
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "weights are small and not negative; `as` saturates"
)]
fn hundredths(weight: f64) -> u32 {
    (weight * 100.0).round() as u32
}

/// A piece of a text around the first word of a question, on one line.
pub fn excerpt(text: &str, question: &str, around: usize) -> String {
    let flat: Vec<char> = text
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .collect();
    let lower: Vec<char> = flat
        .iter()
        .map(|character| character.to_lowercase().next().unwrap_or(*character))
        .collect();
    let at = words(question)
        .filter_map(|word| {
            let word: Vec<char> = word.chars().collect();
            // At the start of a word, as the index finds them.
            (0..lower.len())
                .find(|at| lower[*at..].starts_with(&word) && (*at == 0 || !lower[*at - 1].is_alphanumeric()))
        })
        .min()
        .unwrap_or(0);
    let start = at.saturating_sub(around / 3);
    let end = (start + around).min(flat.len());
    let mut out: String = flat[start..end].iter().collect();
    if start > 0 {
        out.insert(0, '…');
    }
    if end < flat.len() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::site::{Site, Source};

    fn index(pages: &[(&str, &str)]) -> (Index, Vec<String>) {
        let sources = pages
            .iter()
            .enumerate()
            .map(|(number, (title, text))| Source {
                inside: format!("{number}.md"),
                file: format!("{number}.md"),
                text: format!("---\ntitle: {title}\norder: {number}\n---\n{text}"),
            })
            .collect();
        let mut troubles = Vec::new();
        let site = Site::of(sources, &mut troubles).expect("a site");
        let bodies = site.render(&mut troubles);
        let titles = site.pages.iter().map(|page| page.title.clone()).collect();
        (Index::of(&site.pages, &bodies), titles)
    }

    fn titles(pages: &[(&str, &str)], question: &str) -> Vec<String> {
        let (index, titles) = index(pages);
        index
            .find(question)
            .iter()
            .map(|hit| titles[hit.page].clone())
            .collect()
    }

    const PAGES: &[(&str, &str)] = &[
        ("List apps", "Lists all apps. A restart is told as an event."),
        ("Restart an app", "Ends one and starts it again."),
        ("Errors", "What a restart, a stop and a start may answer."),
        ("Straße", "Ünïcode `{\"restarts\": 3}`, and a stop and a start."),
    ];

    #[test]
    fn a_title_weighs_more_than_a_text_and_a_word_more_than_a_start() {
        assert_eq!(
            titles(PAGES, "restart"),
            ["Restart an app", "List apps", "Errors", "Straße"]
        );
        assert_eq!(titles(PAGES, "RESTARTS"), ["Straße"]);
        assert_eq!(titles(PAGES, "ünï"), ["Straße"]);
    }

    #[test]
    fn every_word_must_be_there() {
        assert_eq!(titles(PAGES, "restart event"), ["List apps"]);
        assert_eq!(titles(PAGES, "restart nothing"), Vec::<String>::new());
        assert_eq!(titles(PAGES, "  …  "), Vec::<String>::new());
    }

    #[test]
    fn an_excerpt_shows_the_word() {
        let text = format!("{} the Needle is here {}", "hay ".repeat(50), "hay ".repeat(50));
        let shown = excerpt(&text, "needle", 60);
        assert!(
            shown.contains("Needle") && shown.starts_with('…') && shown.ends_with('…'),
            "{shown}"
        );
        assert!(shown.chars().count() <= 62);
        assert_eq!(excerpt("short", "nothing", 60), "short");
        let within = format!("haystack {} a stack", "hay ".repeat(40));
        assert!(excerpt(&within, "stack", 20).ends_with("a stack"), "{within}");
    }
}
