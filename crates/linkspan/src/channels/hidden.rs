//! What a channel must never show, although a receiver may say it back: the path and query of its address, its headers, its secrets.

use linkspan_model::config::HttpUrl;

use super::printable::printable;

/// How much of a receiver's answer is looked at, in bytes.
const LOOKED_AT: usize = 16 * 1024;
/// How much of it is shown, in characters.
const SHOWN: usize = 200;
/// Shorter texts are too common to be secrets, and to be taken out of sentences.
const SHORTEST: usize = 6;

/// Texts that are taken out of whatever is shown.
#[derive(Clone, Default)]
pub(super) struct Hidden(Vec<String>);

impl Hidden {
    /// Hides what an address holds beyond its origin.
    pub(super) fn of(address: &HttpUrl) -> Self {
        let mut hidden = Self::default();
        hidden.url(address);
        hidden
    }

    /// Hides what an address holds beyond its origin.
    pub(super) fn url(&mut self, address: &HttpUrl) {
        let url = address.reveal();
        self.add(url.path());
        url.path().split('/').for_each(|segment| self.add(segment));
        if let Some(query) = url.query() {
            self.add(query);
            self.add(&format!("{}?{query}", url.path()));
        }
        for (_, value) in url.query_pairs() {
            self.add(&value);
        }
    }

    /// Hides a secret, whole and word by word.
    pub(super) fn add(&mut self, secret: &str) {
        let words = secret.split_ascii_whitespace();
        for text in words.chain([secret]) {
            // As JSON and HTML write it.
            let spellings = [
                text.to_owned(),
                text.replace('/', "\\/"),
                text.replace('&', "&amp;"),
            ];
            for spelling in spellings {
                if spelling.len() >= SHORTEST && !self.0.contains(&spelling) {
                    self.0.push(spelling);
                }
            }
        }
        self.0.sort_by_key(|text| std::cmp::Reverse(text.len()));
    }

    /// A short, printable part of what a receiver said.
    pub(super) fn show(&self, said: &[u8]) -> String {
        let looked_at = &said[..said.len().min(LOOKED_AT)];
        let mut text = String::from_utf8_lossy(looked_at).into_owned();
        for secret in &self.0 {
            if text.contains(secret.as_str()) {
                text = text.replace(secret.as_str(), "…");
            }
        }
        printable(&text, SHOWN)
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden(…)")
    }
}
