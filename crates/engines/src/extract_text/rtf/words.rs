//! The control words that matter to text.

use encoding_rs::Encoding;

/// What a control word does.
pub(super) enum Word {
    /// Stands for text.
    Text(&'static str),
    /// Its group holds no text of the page.
    Skip,
    FontTable,
    Unicode,
    Fallback,
    Hidden,
    Binary,
    CodePage,
    Macintosh,
    Font,
    FontCharset,
    Plain,
    Paragraph,
    ParagraphDefaults,
    InTable,
    Note,
    Other,
}

/// Starred destinations that hold text of the page, as they stand after `\*`.
pub(super) const KNOWN_STARRED: [&[u8]; 3] = [b"\\shptxt", b"\\shpinst", b"\\fonttbl"];

pub(super) fn word(name: &[u8]) -> Word {
    match name {
        b"line" | b"sect" | b"page" | b"row" | b"nestrow" | b"softline" => Word::Text("\n"),
        b"par" => Word::Paragraph,
        b"pard" => Word::ParagraphDefaults,
        b"intbl" => Word::InTable,
        b"footnote" => Word::Note,
        b"tab" | b"cell" | b"nestcell" => Word::Text("\t"),
        b"emdash" => Word::Text("—"),
        b"endash" => Word::Text("–"),
        b"emspace" | b"enspace" | b"qmspace" => Word::Text(" "),
        b"bullet" => Word::Text("•"),
        b"lquote" => Word::Text("‘"),
        b"rquote" => Word::Text("’"),
        b"ldblquote" => Word::Text("“"),
        b"rdblquote" => Word::Text("”"),
        b"zwj" => Word::Text("\u{200d}"),
        b"zwnj" => Word::Text("\u{200c}"),
        b"fonttbl" => Word::FontTable,
        b"u" => Word::Unicode,
        b"uc" => Word::Fallback,
        b"v" | b"deleted" => Word::Hidden,
        b"bin" => Word::Binary,
        b"ansicpg" => Word::CodePage,
        b"mac" => Word::Macintosh,
        b"f" | b"af" => Word::Font,
        b"fcharset" => Word::FontCharset,
        b"plain" => Word::Plain,
        b"colortbl"
        | b"stylesheet"
        | b"info"
        | b"pict"
        | b"fldinst"
        | b"objdata"
        | b"objclass"
        | b"objname"
        | b"themedata"
        | b"colorschememapping"
        | b"datastore"
        | b"latentstyles"
        | b"listtable"
        | b"listoverridetable"
        | b"revtbl"
        | b"rsidtbl"
        | b"generator"
        | b"filetbl"
        | b"pgptbl"
        | b"xmlnstbl"
        | b"xe"
        | b"tc"
        | b"tcn"
        | b"bkmkstart"
        | b"bkmkend"
        | b"nonshppict"
        | b"shprslt"
        | b"sp"
        | b"template"
        | b"ftnsep"
        | b"ftnsepc"
        | b"ftncn"
        | b"aftnsep"
        | b"aftnsepc"
        | b"aftncn"
        | b"falt"
        | b"panose"
        | b"fname"
        | b"mmathPr"
        | b"datafield"
        | b"annotation"
        | b"atnid"
        | b"atnauthor"
        | b"pntxtb"
        | b"pntxta"
        | b"listname"
        | b"private"
        | b"userprops"
        | b"wgrffmtfilter" => Word::Skip,
        _ => Word::Other,
    }
}

/// The encoding of `\ansicpg` and the like.
pub(super) fn code_page(number: i32) -> Option<&'static Encoding> {
    use encoding_rs as e;
    Some(match number {
        874 => e::WINDOWS_874,
        866 => e::IBM866,
        932 => e::SHIFT_JIS,
        936 => e::GBK,
        949 | 1361 => e::EUC_KR,
        950 => e::BIG5,
        1250 => e::WINDOWS_1250,
        1251 => e::WINDOWS_1251,
        1252 => e::WINDOWS_1252,
        1253 => e::WINDOWS_1253,
        1254 => e::WINDOWS_1254,
        1255 => e::WINDOWS_1255,
        1256 => e::WINDOWS_1256,
        1257 => e::WINDOWS_1257,
        1258 => e::WINDOWS_1258,
        10_000 => e::MACINTOSH,
        65_001 => e::UTF_8,
        _ => return None,
    })
}

/// The encoding of a font's `\fcharset`; none for the default and for symbols, which leave the document's.
pub(super) fn charset(number: i32) -> Option<&'static Encoding> {
    code_page(match number {
        0 => 1252,
        77 => 10_000,
        128 => 932,
        129 => 949,
        134 => 936,
        136 => 950,
        161 => 1253,
        162 => 1254,
        163 => 1258,
        177 => 1255,
        178 => 1256,
        186 => 1257,
        204 => 1251,
        222 => 874,
        238 => 1250,
        _ => return None,
    })
}
