//! The languages that are known, by their BCP 47 codes.

use whatlang::Lang;

/// Every language with its code: the shortest of ISO 639, as BCP 47 asks.
#[rustfmt::skip]
pub(super) const LANGUAGES: &[(Lang, &str)] = &[
    (Lang::Afr, "af"), (Lang::Aka, "ak"), (Lang::Amh, "am"), (Lang::Ara, "ar"), (Lang::Aze, "az"), (Lang::Bel, "be"),
    (Lang::Ben, "bn"), (Lang::Bul, "bg"), (Lang::Cat, "ca"), (Lang::Ces, "cs"), (Lang::Cmn, "zh"), (Lang::Cym, "cy"),
    (Lang::Dan, "da"), (Lang::Deu, "de"), (Lang::Ell, "el"), (Lang::Eng, "en"), (Lang::Epo, "eo"), (Lang::Est, "et"),
    (Lang::Fin, "fi"), (Lang::Fra, "fr"), (Lang::Guj, "gu"), (Lang::Heb, "he"), (Lang::Hin, "hi"), (Lang::Hrv, "hr"),
    (Lang::Hun, "hu"), (Lang::Hye, "hy"), (Lang::Ind, "id"), (Lang::Ita, "it"), (Lang::Jav, "jv"), (Lang::Jpn, "ja"),
    (Lang::Kan, "kn"), (Lang::Kat, "ka"), (Lang::Khm, "km"), (Lang::Kor, "ko"), (Lang::Lat, "la"), (Lang::Lav, "lv"),
    (Lang::Lit, "lt"), (Lang::Mal, "ml"), (Lang::Mar, "mr"), (Lang::Mkd, "mk"), (Lang::Mya, "my"), (Lang::Nep, "ne"),
    (Lang::Nld, "nl"), (Lang::Nob, "nb"), (Lang::Ori, "or"), (Lang::Pan, "pa"), (Lang::Pes, "fa"), (Lang::Pol, "pl"),
    (Lang::Por, "pt"), (Lang::Ron, "ro"), (Lang::Rus, "ru"), (Lang::Sin, "si"), (Lang::Slk, "sk"), (Lang::Slv, "sl"),
    (Lang::Sna, "sn"), (Lang::Spa, "es"), (Lang::Srp, "sr"), (Lang::Swe, "sv"), (Lang::Tam, "ta"), (Lang::Tel, "te"),
    (Lang::Tgl, "tl"), (Lang::Tha, "th"), (Lang::Tuk, "tk"), (Lang::Tur, "tr"), (Lang::Ukr, "uk"), (Lang::Urd, "ur"),
    (Lang::Uzb, "uz"), (Lang::Vie, "vi"), (Lang::Yid, "yi"), (Lang::Zul, "zu"),
];

/// The language's BCP 47 code.
pub(super) fn code(lang: Lang) -> &'static str {
    LANGUAGES
        .iter()
        .find(|(known, _)| *known == lang)
        .map_or("und", |(_, code)| code)
}

/// The language of a code; what follows the language in a BCP 47 tag (`pt-BR`) is not looked at, upper and lower case are one.
pub(super) fn from_code(tag: &str) -> Option<Lang> {
    let primary = tag.split('-').next()?;
    LANGUAGES
        .iter()
        .find(|(_, code)| code.eq_ignore_ascii_case(primary))
        .map(|(lang, _)| *lang)
}

/// The English name of the language of a code, or the code where that is not known.
pub(crate) fn name(code: &str) -> &str {
    from_code(code).map_or(code, |lang| match lang {
        Lang::Cmn => "Chinese",
        lang => lang.eng_name(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_language_has_one_code_of_its_own() {
        for lang in Lang::all() {
            assert_eq!(from_code(code(*lang)), Some(*lang), "{lang}");
        }
        assert_eq!(LANGUAGES.len(), Lang::all().len());
        assert!(LANGUAGES.len() >= 60);
    }

    #[test]
    fn a_tag_is_read_by_its_language() {
        for (tag, language) in [
            ("en", "en"),
            ("EN-gb", "en"),
            ("zh-Hant-TW", "zh"),
            ("nb", "nb"),
        ] {
            assert_eq!(from_code(tag).map(code), Some(language), "{tag}");
        }
        assert_eq!(from_code("xx"), None);
        assert_eq!(from_code(""), None);
    }

    #[test]
    fn macrolanguages_have_the_name_that_people_use() {
        assert_eq!(name("zh"), "Chinese");
        assert_eq!(name("nb"), "Bokmal");
        assert_eq!(name("de"), "German");
        assert_eq!(name("tlh"), "tlh");
    }
}
