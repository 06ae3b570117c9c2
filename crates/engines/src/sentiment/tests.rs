//! Tests of the whole engine.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::vader::Polarity;
use super::*;
use crate::engine::Document;

fn perform(input: Input<'_>, options: &Value, params: &Value) -> Result<Sentiment, EngineError> {
    let object = |value: &Value| value.as_object().cloned().unwrap_or_default();
    let work = Work {
        input,
        options: &object(options),
        params: &object(params),
        claim: None,
    };
    SentimentEngine.perform(&work).map(|answer| match answer {
        Answer::Sentiment(answer) => answer,
        other => panic!("not a sentiment: {other:?}"),
    })
}

fn of(text: &str) -> Result<Sentiment, EngineError> {
    perform(Input::Text(text), &json!({}), &json!({}))
}

/// `tools/vader_golden.py` writes the file with the published implementation.
#[test]
fn scores_equal_those_of_the_published_implementation() {
    #[derive(Deserialize)]
    struct Golden {
        text: String,
        positive: f64,
        neutral: f64,
        negative: f64,
        compound: f64,
    }
    let lines = include_str!("vader_data/golden.jsonl");
    assert!(lines.lines().count() > 400);
    for line in lines.lines() {
        let golden: Golden = serde_json::from_str(line).unwrap();
        let expected = Polarity {
            positive: golden.positive,
            neutral: golden.neutral,
            negative: golden.negative,
            compound: golden.compound,
        };
        assert_eq!(vader::polarity(&golden.text), expected, "{:?}", golden.text);
    }
}

#[test]
fn a_text_has_the_mood_of_its_score() {
    for (text, label) in [
        ("I love this lamp, it is wonderful.", Mood::Positive),
        (
            "The lamp is terrible and the shop is worse.",
            Mood::Negative,
        ),
        ("The lamp stands on the table.", Mood::Neutral),
        ("I love this lamp! The shop was horrible.", Mood::Mixed),
        (
            "The lamp is great, lovely, and I adore it. The box was bad. Best buy ever, superb! Wonderful light.",
            Mood::Positive,
        ),
        ("Nice lamp :-) but broken :-(", Mood::Negative),
    ] {
        let answer = of(text).unwrap();
        assert_eq!(answer.label, label, "{text}: {answer:?}");
    }
}

#[test]
fn sentences_have_scores_where_there_is_more_than_one() {
    assert!(of("A good day.").unwrap().sentences.is_empty());
    let answer = of("A good day. A bad night!").unwrap();
    let moods: Vec<(&str, f64)> = answer
        .sentences
        .iter()
        .map(|sentence| (sentence.text.as_str(), sentence.score))
        .collect();
    assert_eq!(moods, [("A good day.", 0.4404), ("A bad night!", -0.5848)]);
    let without = perform(
        Input::Text("A good day. A bad night!"),
        &json!({ "sentences": false }),
        &json!({}),
    )
    .unwrap();
    assert_eq!(
        without,
        Sentiment {
            sentences: Vec::new(),
            ..answer
        }
    );
}

#[test]
fn a_text_without_letters_is_scored_by_its_emoticons_or_neutral() {
    for (text, label) in [
        ("", Mood::Neutral),
        ("  ", Mood::Neutral),
        ("12345!", Mood::Neutral),
        (":-)", Mood::Positive),
        ("😢", Mood::Negative),
    ] {
        assert_eq!(of(text).unwrap().label, label, "{text:?}");
    }
    assert_eq!(of("").unwrap().score, 0.0);
}

#[test]
fn short_english_is_taken() {
    for text in [
        "Great!",
        "ok",
        "OK.",
        "LOL :)",
        "meh",
        "Nice",
        "wow",
        "bad",
        "not bad",
        "Thanks!",
        "so so",
        "Works great.",
        "Excellent phone",
        "horrible",
        "never again",
        "It's super",
        "Decent",
        "mediocre",
        "Blurry",
        "waste of money",
        "A+",
        "https://example.com nice",
        "@someone you rock",
    ] {
        assert!(of(text).is_ok(), "{text}: {}", of(text).unwrap_err());
    }
}

#[test]
fn another_language_is_refused_by_its_name_and_never_called_neutral() {
    for (text, found) in [
        ("Das ist furchtbar", "German (de)"),
        ("C'est nul", "French (fr)"),
        ("Sehr gut", "German (de)"),
        ("No me gusta", "(es)"),
        ("Me encanta este sitio", "Spanish (es)"),
        ("Che schifo", "Italian (it)"),
        ("Não gostei", "Portuguese (pt)"),
        ("Dit is slecht", "Dutch (nl)"),
        ("Very добре, дуже добре", "Ukrainian (uk)"),
        ("很好", "Chinese (zh)"),
        ("最高です", "Japanese (ja)"),
        ("Πολύ καλό", "Greek (el)"),
        ("ຂອບໃຈຫຼາຍໆ", "a script that is not known"),
    ] {
        let error = of(text).unwrap_err();
        assert_eq!(error.code, Code::UnsupportedLanguage);
        assert!(error.detail.contains(found), "{text}: {}", error.detail);
        assert!(error.detail.contains("English (en)"));
    }
}

#[test]
fn the_parameter_language_decides_over_the_detector() {
    let with = |text, language: Value| {
        perform(
            Input::Text(text),
            &json!({}),
            &json!({ "language": language }),
        )
    };
    assert!(with("Kismet", json!("en")).is_ok());
    assert!(with("C'est nul", json!("EN-gb")).is_ok());
    assert!(with("It is fine", json!(null)).is_ok());
    let refused = with("It is fine", json!("fr-CA")).unwrap_err();
    assert_eq!(refused.code, Code::UnsupportedLanguage);
    assert!(refused.detail.contains("French (fr)"), "{}", refused.detail);
    assert_eq!(
        with("C'est nul", json!("und")).unwrap_err().code,
        Code::UnsupportedLanguage
    );
    for wrong in [
        json!(7),
        json!(""),
        json!("english language"),
        json!(["en"]),
    ] {
        assert_eq!(
            with("It is fine", wrong).unwrap_err().code,
            Code::InvalidParameter
        );
    }
}

#[test]
fn wrong_options_are_named() {
    let error = perform(
        Input::Text("fine"),
        &json!({ "sentence": true }),
        &json!({}),
    )
    .unwrap_err();
    assert_eq!(error.code, Code::InvalidParameter);
    assert!(
        error.detail.contains("`sentence`") && error.detail.contains("`sentences`"),
        "{}",
        error.detail
    );
}

#[test]
fn a_file_is_refused_with_what_to_do() {
    let document = Document {
        bytes: b"fine",
        media_type: Some("text/plain"),
        file_name: None,
    };
    let error = perform(Input::Document(document), &json!({}), &json!({})).unwrap_err();
    assert_eq!(error.code, Code::UnsupportedMediaType);
    assert!(error.detail.contains("extract-text"));
}

#[test]
fn no_error_repeats_the_text() {
    let error = of("Mein geheimes Kennwort ist Sesamkorn").unwrap_err();
    assert!(!error.detail.contains("Sesamkorn"));
}

/// Walking the list naively would take minutes here.
#[test]
fn a_long_text_full_of_moods_is_scored_in_time_that_grows_with_its_length() {
    let text = "good bad great awful ".repeat(50_000) + "but " + &"nice sad ".repeat(50_000);
    let score = vader::polarity(&text).compound;
    assert!((-1.0..=1.0).contains(&score));
}

/// The rule for "but" as the published implementation does it: by walking the list that it changes.
fn weigh_naively(but: usize, valences: &mut [f64]) {
    for i in 0..valences.len() {
        let valence = valences[i];
        let place = valences.iter().position(|other| *other == valence).unwrap();
        if place < but {
            valences[place] = valence * 0.5;
        } else if place > but {
            valences[place] = valence * 1.5;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_rule_for_but_changes_what_the_naive_walk_changes(
        picks in proptest::collection::vec(proptest::sample::select(vec![0.0, 1.0, 0.5, 2.0, -1.0, -2.0, 1.5, 3.0, -0.5]), 1..40),
        but in 0_usize..40,
    ) {
        let but = but % picks.len();
        let (mut fast, mut naive) = (picks.clone(), picks);
        vader::weigh_around(but, &mut fast);
        weigh_naively(but, &mut naive);
        prop_assert_eq!(fast, naive);
    }

    #[test]
    fn any_text_has_scores_within_their_bounds(text in "\\PC{0,80}") {
        let polarity = vader::polarity(&text);
        prop_assert!((-1.0..=1.0).contains(&polarity.compound));
        let sum = polarity.positive + polarity.neutral + polarity.negative;
        prop_assert!(sum == 0.0 || (sum - 1.0).abs() < 0.0021, "{sum}");
    }
}
