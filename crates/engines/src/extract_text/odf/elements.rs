//! What the elements of an `OpenDocument` file mean to its text.

use quick_xml::events::BytesStart;

#[derive(Default)]
pub(super) struct Sink {
    pub(super) text: String,
    /// The cells of a table's open row.
    pub(super) row: Vec<String>,
}

/// What an element's end does.
#[derive(Clone, PartialEq)]
pub(super) enum End {
    Nothing,
    Paragraph,
    Page,
    Table,
    Row {
        repeat: usize,
    },
    Cell {
        repeat: usize,
        date: Option<String>,
    },
    Note,
    Citation,
    /// A reviewer's remark: these stand after the text.
    Annotation,
    Author,
    Header,
    Footer,
    /// Text that is on no page: a master page's placeholders.
    Discard,
}

/// Elements that are left out with all that they hold.
pub(super) fn is_left_out(name: &str) -> bool {
    matches!(
        name,
        // The numbers of pages are those of whoever saved the file.
        "text:page-number"
            | "text:page-count"
            | "text:page-continuation"
            | "dc:date"
            | "meta:date-string"
            | "text:tracked-changes"
            | "svg:title"
            | "svg:desc"
            | "text:ruby-text"
            | "office:forms"
            | "office:scripts"
            | "office:font-face-decls"
            | "office:automatic-styles"
            | "office:styles"
            | "office:meta"
            | "office:settings"
            | "office:binary-data"
            | "table:tracked-changes"
            | "table:label-ranges"
            | "text:hidden-text"
            | "presentation:settings"
            | "text:tracked-change"
            | "draw:layer-set"
            | "table:content-validations"
            | "text:variable-decls"
            | "text:sequence-decls"
    )
}

pub(super) fn add_once(to: &mut String, text: &str) {
    let text = text.trim();
    if !text.is_empty() && !to.lines().any(|line| line == text) {
        to.push_str(text);
        to.push('\n');
    }
}

pub(super) fn attribute(element: &BytesStart<'_>, local_name: &str) -> Option<String> {
    element
        .attributes()
        .with_checks(false)
        .flatten()
        .find_map(|attribute| {
            (attribute.key.local_name().into_inner() == local_name)
                .then(|| {
                    attribute
                        .normalized_value(quick_xml::XmlVersion::Explicit1_0)
                        .ok()
                        .map(std::borrow::Cow::into_owned)
                })
                .flatten()
        })
}

pub(super) fn number(element: &BytesStart<'_>, local_name: &str) -> Option<usize> {
    attribute(element, local_name)?.parse().ok()
}
