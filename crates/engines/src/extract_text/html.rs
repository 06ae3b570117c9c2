//! HTML, as its reader sees it: no scripts, styles or hidden elements; blocks are lines, table cells are joined by tabs.
//!
//! Only the tokenizer of `html5ever` is used. Building a tree costs time and stack that a hostile page can multiply, and the text
//! needs none.

mod layout;

use std::cell::RefCell;

use html5ever::tendril::StrTendril;
use html5ever::tokenizer::states::RawKind;
use html5ever::tokenizer::{
    BufferQueue, Tag, TagKind, Token, TokenSink, TokenSinkResult, Tokenizer, TokenizerOpts,
};

use self::layout::Layout;
use super::{Extracted, Reader, clean, one_page, text};
use crate::engine::{Document, EngineError};

pub(super) fn extract(
    document: &Document<'_>,
    _reader: &Reader<'_>,
) -> Result<Extracted, EngineError> {
    let declared = document
        .media_type
        .and_then(text::charset)
        .or_else(|| text::declared_in_xml(document.bytes))
        .or_else(|| declared_in_meta(document.bytes));
    let decoded = text::decode(document.bytes, declared);
    let mut extracted = one_page(to_text(&decoded.text));
    extracted.warnings.extend(decoded.warning);
    Ok(extracted)
}

/// The text of an HTML document or fragment.
pub(super) fn to_text(html: &str) -> String {
    let input = BufferQueue::default();
    input.push_back(StrTendril::from_slice(html));
    let tokenizer = Tokenizer::new(Page::default(), TokenizerOpts::default());
    let _ = tokenizer.feed(&input);
    tokenizer.end();
    let page = tokenizer.sink.state.into_inner();
    clean::few_blank_lines(&page.layout.finish())
}

/// The charset of a `meta` element near the start (HTML, 13.2.3.2).
fn declared_in_meta(bytes: &[u8]) -> Option<&'static encoding_rs::Encoding> {
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).to_ascii_lowercase();
    head.match_indices("<meta").find_map(|(at, _)| {
        let element = head[at..].split('>').next()?;
        let value = element
            .split_once("charset")?
            .1
            .trim_start()
            .strip_prefix('=')?;
        let value = value.trim_start().trim_start_matches(['"', '\'']);
        let label = value.split(['"', '\'', ' ', '/', ';']).next()?;
        // A meta element cannot be in UTF-16, whatever it says.
        encoding_rs::Encoding::for_label(label.as_bytes()).map(|e| {
            if e == encoding_rs::UTF_16LE || e == encoding_rs::UTF_16BE {
                encoding_rs::UTF_8
            } else {
                e
            }
        })
    })
}

#[derive(Default)]
struct Page {
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    layout: Layout,
    /// The element that is left out, and how many of its name are open in it.
    skipped: Option<(String, usize)>,
    /// Open lists: the next number of an ordered one.
    lists: Vec<Option<usize>>,
}

impl TokenSink for Page {
    type Handle = ();

    fn process_token(&self, token: Token, _line: u64) -> TokenSinkResult<()> {
        let mut state = self.state.borrow_mut();
        match token {
            Token::TagToken(tag) => return state.tag(&tag),
            Token::CharacterTokens(characters) if state.skipped.is_none() => {
                state.layout.text(&characters);
            }
            _ => {}
        }
        TokenSinkResult::Continue
    }
}

impl State {
    fn tag(&mut self, tag: &Tag) -> TokenSinkResult<()> {
        let name = &*tag.name;
        let start = tag.kind == TagKind::StartTag;
        if let Some((skipped, depth)) = &mut self.skipped {
            if skipped == name {
                match (start, may_stay_open(name)) {
                    // A sibling ends an element whose end tag was left out.
                    (true, true) => self.skipped = None,
                    (true, false) => *depth += 1,
                    (false, _) => *depth -= 1,
                }
            }
            if !start || self.skipped.as_ref().is_some_and(|(_, depth)| *depth > 0) {
                if self.skipped.as_ref().is_some_and(|(_, depth)| *depth == 0) {
                    self.skipped = None;
                }
                return TokenSinkResult::Continue;
            }
        }
        if start {
            self.start(name, tag)
        } else {
            self.end(name);
            TokenSinkResult::Continue
        }
    }

    fn start(&mut self, name: &str, tag: &Tag) -> TokenSinkResult<()> {
        let raw = match name {
            "script" => Some(RawKind::ScriptData),
            "style" | "xmp" | "iframe" | "noembed" | "noframes" => Some(RawKind::Rawtext),
            "title" | "textarea" => Some(RawKind::Rcdata),
            _ => None,
        };
        let left_out = matches!(
            name,
            "script"
                | "style"
                | "title"
                | "iframe"
                | "noembed"
                | "noframes"
                | "template"
                | "object"
                | "svg"
                | "math"
                | "datalist"
                | "canvas"
                | "audio"
                | "video"
        );
        if (left_out || is_hidden(tag)) && !is_void(name) && !tag.self_closing {
            self.skipped = Some((name.to_owned(), 1));
        } else {
            self.open(name, tag);
        }
        raw.map_or(TokenSinkResult::Continue, TokenSinkResult::RawData)
    }

    fn open(&mut self, name: &str, tag: &Tag) {
        match name {
            "br" => self.layout.newline(),
            "hr" => self.layout.block(),
            "pre" | "xmp" | "listing" => self.layout.open_pre(),
            "table" => self.layout.open_table(),
            "tr" => self.layout.row(),
            "td" | "th" => self.layout.cell(),
            "ul" | "menu" => self.open_list(None),
            "ol" => {
                let first = attribute(tag, "start").and_then(|n| n.parse().ok());
                self.open_list(Some(first.unwrap_or(1)));
            }
            "li" => {
                self.layout.block();
                match self.lists.last_mut() {
                    Some(Some(number)) => {
                        self.layout.mark(&format!("{number}. "));
                        *number += 1;
                    }
                    _ => self.layout.mark("- "),
                }
            }
            _ if is_block(name) => self.layout.paragraph(),
            _ if is_line(name) => self.layout.block(),
            _ => {}
        }
    }

    fn end(&mut self, name: &str) {
        match name {
            "pre" | "xmp" | "listing" => self.layout.close_pre(),
            "table" => self.layout.close_table(),
            "ul" | "ol" | "menu" => {
                self.lists.pop();
                self.layout.block();
            }
            "li" => self.layout.block(),
            "td" | "th" | "tr" => {}
            // `</p>` alone is an empty paragraph, `</br>` a line break.
            "br" => self.layout.newline(),
            _ if is_block(name) => self.layout.paragraph(),
            _ if is_line(name) => self.layout.block(),
            _ => {}
        }
    }

    fn open_list(&mut self, first: Option<usize>) {
        self.layout.block();
        if self.lists.len() < 100 {
            self.lists.push(first);
        }
    }
}

fn attribute<'t>(tag: &'t Tag, name: &str) -> Option<&'t str> {
    tag.attrs
        .iter()
        .find(|a| &*a.name.local == name)
        .map(|a| &*a.value)
}

/// Hidden by its attribute or its own style; style sheets are not followed.
fn is_hidden(tag: &Tag) -> bool {
    if attribute(tag, "hidden").is_some_and(|value| value != "until-found") {
        return true;
    }
    attribute(tag, "style").is_some_and(|style| {
        let style: String = style.to_ascii_lowercase().split_whitespace().collect();
        style.contains("display:none") || style.contains("visibility:hidden")
    })
}

fn is_void(name: &str) -> bool {
    matches!(
        name,
        "area"
            | "base"
            | "br"
            | "col"
            | "embed"
            | "hr"
            | "img"
            | "input"
            | "link"
            | "meta"
            | "param"
            | "source"
            | "track"
            | "wbr"
    )
}

/// Elements whose end tag may be left out.
fn may_stay_open(name: &str) -> bool {
    matches!(
        name,
        "p" | "li"
            | "dt"
            | "dd"
            | "tr"
            | "td"
            | "th"
            | "option"
            | "optgroup"
            | "thead"
            | "tbody"
            | "tfoot"
    )
}

/// Elements set apart by a blank line.
fn is_block(name: &str) -> bool {
    matches!(
        name,
        "p" | "h1" | "h2" | "h3" | "h4" | "h5" | "h6" | "blockquote" | "dl" | "figure"
    )
}

/// Elements that start a line.
fn is_line(name: &str) -> bool {
    matches!(
        name,
        "address"
            | "article"
            | "aside"
            | "body"
            | "caption"
            | "center"
            | "dd"
            | "details"
            | "dialog"
            | "dir"
            | "div"
            | "dt"
            | "fieldset"
            | "figcaption"
            | "footer"
            | "form"
            | "header"
            | "hgroup"
            | "html"
            | "legend"
            | "main"
            | "nav"
            | "option"
            | "section"
            | "summary"
            | "tbody"
            | "tfoot"
            | "thead"
            | "textarea"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::extract_text::testing::{hinted, text_of};

    #[test]
    fn a_page_reads_as_its_reader_sees_it() {
        let cases = [
            (
                "<p>One</p><p>Two <b>bold</b>\n word</p>",
                "One\n\nTwo bold word",
            ),
            (
                "<title>t</title><style>p{}</style><script>if (a<b) x()</script><p>x",
                "x",
            ),
            ("a<br>b<div>c</div>d", "a\nb\nc\nd"),
            (
                "<ul><li>one<li>two</ul><ol start=3><li>three</li><li>four</li></ol>",
                "- one\n- two\n3. three\n4. four",
            ),
            ("<pre>a  b\n  c</pre>", "a  b\n  c"),
            (
                "caf&eacute; &amp; t&#233; &lt;b&gt;&nbsp;x",
                "café & té <b>\u{a0}x",
            ),
            (
                "<p>a</p><div style='display: none'>b<div>c</div></div><p hidden>d</p>e",
                "a\n\ne",
            ),
            ("<p hidden>secret<p>seen", "seen"),
            ("x<!-- comment --><template>t</template>y", "xy"),
            ("<h1>Head</h1>text", "Head\n\ntext"),
        ];
        for (html, expected) in cases {
            assert_eq!(to_text(html).trim_end(), expected, "{html}");
        }
    }

    #[test]
    fn tables_are_rows_of_cells() {
        let html = "<table><tr><th>Item<th>Price</tr><tr><td><p>Tea</p></td><td>2.50</td></tr></table><p>after";
        assert_eq!(to_text(html).trim_end(), "Item\tPrice\nTea\t2.50\n\nafter");
        let layout = "<table><tr><td><table><tr><td>a</td><td>b</td></tr></table></td><td><p>left</p><p>right</p></td></tr></table>";
        assert_eq!(to_text(layout).trim_end(), "a\tb\nleft\n\nright");
    }

    #[test]
    fn the_charset_comes_from_meta() {
        let html = "<html><head><meta http-equiv=\"Content-Type\" content=\"text/html; charset=iso-8859-2\"></head><body>ača šč";
        let bytes = encoding_rs::ISO_8859_2.encode(html).0.into_owned();
        assert_eq!(text_of(&bytes, ""), "ača šč");
        let html = "<!doctype html><meta charset=windows-1251><p>Привет";
        assert_eq!(
            text_of(&encoding_rs::WINDOWS_1251.encode(html).0, ""),
            "Привет"
        );
    }

    #[test]
    fn deep_nesting_is_read_without_trouble() {
        let html = format!(
            "<html>{}deep",
            "<div><table><tr><td><ul><li>".repeat(50_000)
        );
        let read = hinted(html.as_bytes(), "text/html").unwrap();
        assert!(read.text.ends_with("deep"));
    }
}
