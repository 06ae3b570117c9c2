//! Tests of the whole engine.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::engine::Document;

const SENTENCES: &[(&str, &str)] = &[
    (
        "en",
        "The parcel came on Tuesday and everything in it was in good order.",
    ),
    (
        "de",
        "Das Paket kam am Dienstag an, und alles darin war in Ordnung.",
    ),
    (
        "fr",
        "Le colis est arrivé mardi et tout ce qu'il contenait était en bon état.",
    ),
    (
        "es",
        "El paquete llegó el martes y todo lo que había dentro estaba en orden.",
    ),
    (
        "it",
        "Il pacco è arrivato martedì e tutto quello che c'era dentro era in ordine.",
    ),
    (
        "pt",
        "A encomenda chegou na terça-feira e tudo o que havia dentro estava em ordem.",
    ),
    (
        "nl",
        "Het pakket kwam dinsdag aan en alles wat erin zat was in orde.",
    ),
    (
        "ca",
        "El paquet va arribar dimarts i tot el que hi havia a dins estava en ordre.",
    ),
    (
        "sv",
        "Paketet kom i tisdags och allt som fanns i det var i ordning.",
    ),
    (
        "fi",
        "Paketti saapui tiistaina ja kaikki mitä siinä oli oli kunnossa.",
    ),
    (
        "pl",
        "Paczka przyszła we wtorek i wszystko, co w niej było, jest w porządku.",
    ),
    (
        "cs",
        "Balík přišel v úterý a všechno, co v něm bylo, je v pořádku.",
    ),
    (
        "hu",
        "A csomag kedden érkezett meg, és minden rendben volt benne.",
    ),
    (
        "tr",
        "Paket salı günü geldi ve içindeki her şey yerli yerindeydi.",
    ),
    (
        "ro",
        "Coletul a sosit marți și tot ce era în el este în regulă.",
    ),
    (
        "vi",
        "Gói hàng đã đến vào thứ ba và mọi thứ bên trong đều ổn.",
    ),
    (
        "ru",
        "Посылка пришла во вторник, и всё, что в ней было, в полном порядке.",
    ),
    (
        "uk",
        "Посилка прийшла у вівторок, і все, що в ній було, у повному порядку.",
    ),
    (
        "bg",
        "Колетът пристигна във вторник и всичко, което беше в него, е наред.",
    ),
    (
        "el",
        "Το δέμα έφτασε την Τρίτη και όλα όσα περιείχε ήταν εντάξει.",
    ),
    ("ar", "وصل الطرد يوم الثلاثاء وكان كل ما فيه على ما يرام."),
    ("fa", "بسته روز سه‌شنبه رسید و همه چیز در آن مرتب بود."),
    ("he", "החבילה הגיעה ביום שלישי וכל מה שהיה בה היה תקין."),
    ("hi", "पार्सल मंगलवार को आया और उसमें सब कुछ ठीक था।"),
    ("bn", "পার্সেলটি মঙ্গলবার এসেছিল এবং এর ভিতরের সবকিছু ঠিক ছিল।"),
    ("th", "พัสดุมาถึงวันอังคารและทุกอย่างข้างในเรียบร้อยดี"),
    (
        "ko",
        "소포는 화요일에 왔고 안에 있던 것은 모두 괜찮았습니다.",
    ),
    ("ja", "荷物は火曜日に届き、中身はすべて無事でした。"),
    ("zh", "包裹星期二到了，里面的东西都完好无损。"),
    ("ka", "ამანათი სამშაბათს მოვიდა და ყველაფერი რიგზე იყო."),
];

fn perform(input: Input<'_>, options: &Value) -> Result<DetectedLanguage, EngineError> {
    let options = options.as_object().cloned().unwrap_or_default();
    let work = Work {
        input,
        options: &options,
        params: &Map::new(),
        claim: None,
    };
    DetectLanguage.perform(&work).map(|answer| match answer {
        Answer::DetectLanguage(answer) => answer,
        other => panic!("not a language: {other:?}"),
    })
}

#[test]
fn sentences_are_detected_with_confidence() {
    for (language, sentence) in SENTENCES {
        let found = detect(sentence);
        assert_eq!(&found.language, language, "{found:?}");
        assert!(found.confidence > 0.6, "{found:?}");
    }
}

#[test]
fn a_few_words_are_enough_where_they_are_common_ones() {
    for (language, text) in [
        ("de", "Das ist furchtbar"),
        ("fr", "C'est nul"),
        ("es", "Me gusta mucho"),
        ("it", "Non mi piace"),
        ("nl", "Dit is heel goed"),
        ("en", "I don't like it"),
    ] {
        let found = detect(text);
        assert_eq!(found.language, language, "{found:?}");
        assert!(found.confidence > 0.5, "{found:?}");
    }
}

#[test]
fn a_single_rare_word_is_never_sure() {
    for word in ["Meridian", "Kalender", "Formular", "Radio", "Taxi"] {
        let found = detect(word);
        assert!(found.confidence < 0.9, "{word}: {found:?}");
        assert!(!found.alternatives.is_empty());
    }
}

#[test]
fn a_text_without_letters_is_undetermined() {
    for text in ["", " \n", "12 + 30 = 42", "…!?", "😀👍"] {
        let found = detect(text);
        assert_eq!(
            (
                found.language.as_str(),
                found.confidence,
                found.alternatives.len()
            ),
            ("und", 0.0, 0),
            "{text:?}"
        );
    }
}

#[test]
fn a_script_that_no_language_is_known_of_is_undetermined() {
    assert_eq!(detect("ຂອບໃຈຫຼາຍໆ").language, "und");
}

#[test]
fn few_ideographs_may_be_chinese_or_japanese_and_kana_decide() {
    let found = detect("東京");
    assert!(found.confidence < 0.8, "{found:?}");
    assert_eq!(found.alternatives.len(), 1);
    assert_eq!(detect("東京はいい").language, "ja");
}

#[test]
fn a_text_of_two_scripts_is_less_sure() {
    let found = detect("Спасибо большое за заказ, thank you very much");
    assert_eq!(found.language, "ru");
    assert!((0.3..0.75).contains(&found.confidence), "{found:?}");
}

#[test]
fn a_service_may_be_restricted_to_some_languages() {
    let text = Input::Text("Det er godt");
    assert!(perform(text, &json!({})).unwrap().language != "sv");
    let found = perform(text, &json!({ "languages": ["sv", "en-GB"] })).unwrap();
    assert_eq!(found.language, "sv");
    assert!(
        found
            .alternatives
            .iter()
            .all(|other| other.language == "en")
    );
    assert_eq!(
        perform(Input::Text("Привет"), &json!({ "languages": ["sv"] }))
            .unwrap()
            .language,
        "und"
    );
}

#[test]
fn wrong_options_are_named() {
    for (options, words) in [
        (
            json!({ "languages": ["eng"] }),
            ["\"eng\"", "\"en\" (English)"],
        ),
        (
            json!({ "languages": ["German"] }),
            ["\"German\"", "\"de\" (German)"],
        ),
        (json!({ "languages": [] }), ["`languages`", "at least one"]),
        (json!({ "languages": "en" }), ["sequence", "en"]),
        (json!({ "language": ["en"] }), ["`language`", "`languages`"]),
    ] {
        let error = perform(Input::Text("text"), &options).unwrap_err();
        assert_eq!(error.code, Code::InvalidParameter);
        for word in words {
            assert!(error.detail.contains(word), "{word} in {}", error.detail);
        }
    }
}

#[test]
fn a_file_is_refused_with_what_to_do() {
    let document = Document {
        bytes: b"%PDF-1.7",
        media_type: None,
        file_name: None,
    };
    let error = perform(Input::Document(document), &json!({})).unwrap_err();
    assert_eq!(error.code, Code::UnsupportedMediaType);
    assert!(error.detail.contains("extract-text"));
}

#[test]
fn only_the_beginning_of_a_long_text_is_judged_and_a_cut_letter_breaks_nothing() {
    let text = "é".repeat(100_000);
    assert!(detect(&text).confidence <= 1.0);
    let text = format!("x{text}");
    assert!(detect(&text).confidence <= 1.0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn confidences_are_probabilities_likeliest_first(text in "\\PC{0,60}") {
        let found = detect(&text);
        let mut confidences = vec![found.confidence];
        confidences.extend(found.alternatives.iter().map(|other| other.confidence));
        prop_assert!(confidences.is_sorted_by(|a, b| a >= b));
        prop_assert!(confidences.iter().all(|confidence| (0.0..=1.0).contains(confidence)));
        prop_assert!(confidences.iter().sum::<f64>() <= 1.001);
    }
}
