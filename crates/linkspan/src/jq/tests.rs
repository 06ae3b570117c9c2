//! Filters as data: what they give, what they refuse, and what they never say.

use serde_json::json;

use super::*;

fn filter(text: &str) -> Filter {
    Filter::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

impl Filter {
    fn first(&self, input: &Value) -> Result<Option<Value>, String> {
        block_on(self.run_limited(input)).map_err(|error| error.sentence)
    }

    fn is_true(&self, input: &Value) -> Result<bool, String> {
        block_on(self.is_true_limited(input)).map_err(|error| error.sentence)
    }
}

fn block_on<T>(answer: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap()
        .block_on(answer)
}

#[test]
fn a_filter_gives_its_first_output() {
    let input = json!({
        "id": "0198", "status": "succeeded",
        "answers": { "mood": { "label": "negative", "score": -0.5 } },
        "steps": [{ "took_ms": 1.5 }, { "took_ms": 20 }],
    });
    let cases = [
        (".status", Some(json!("succeeded"))),
        (
            "{id, label: .answers.mood.label}",
            Some(json!({"id": "0198", "label": "negative"})),
        ),
        (".answers.mood.label == \"negative\"", Some(json!(true))),
        ("[.steps[].took_ms] | add", Some(json!(21.5))),
        ("1, 2", Some(json!(1))),
        ("empty", None),
        (".missing", Some(json!(null))),
        ("[range(3)]", Some(json!([0, 1, 2]))),
        ("[range(3; 0; -1)]", Some(json!([3, 2, 1]))),
        ("[range(0; 1; 0.25)] | length", Some(json!(4))),
        (
            "\"a b\" | split(\" \") | map(ascii_upcase) | join(\"-\")",
            Some(json!("A-B")),
        ),
        (
            "\"2026-11-23T08:00:00Z\" | fromdate",
            Some(json!(1_795_420_800)),
        ),
        ("\"ab12\" | test(\"[0-9]+\")", Some(json!(true))),
        (
            "18446744073709551615",
            Some(json!(18_446_744_073_709_551_615_u64)),
        ),
        ("1e1000", Some(json!(f64::MAX))),
        ("nan", Some(json!(null))),
        (
            "def f(n): if n > 3 then n else f(n + 1) end; f(0)",
            Some(json!(4)),
        ),
        ("try error(\"x\") catch .", Some(json!("x"))),
        ("[limit(3; repeat(1))]", Some(json!([1, 1, 1]))),
        (
            "\"\\(.status)!\" | @base64",
            Some(json!("c3VjY2VlZGVkIQ==")),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(filter(text).first(&input), Ok(expected), "{text}");
    }
}

#[test]
fn truth_is_that_of_the_first_output() {
    let cases = [
        ("true", true),
        ("true, false", true),
        ("false", false),
        ("null", false),
        ("empty", false),
        (".missing", false),
    ];
    for (text, expected) in cases {
        assert_eq!(filter(text).is_true(&json!({})), Ok(expected), "{text}");
    }
    for (text, given) in [
        ("0", "a number"),
        ("\"private\"", "a string"),
        ("[true]", "an array"),
        (".status = \"private\"", "an object"),
    ] {
        let expected = format!("it gives {given}, not true or false");
        assert_eq!(filter(text).is_true(&json!({})), Err(expected), "{text}");
    }
}

#[test]
fn a_condition_is_no_assignment() {
    for text in [
        ".status = \"failed\"",
        ".status = \"failed\" and .id",
        ".answers | .mood.score |= 1",
        "(.a += 1)",
        "def f: .a; f //= 2",
    ] {
        let error = Filter::compile_condition(text).unwrap_err();
        assert!(error.contains("did you mean =="), "{text}: {error}");
    }
    for text in [
        ".status == \"failed\"",
        "(.a = 1) | .a == 1",
        "[.a = 1] == [.b]",
        "any(.steps[]; .took_ms >= 5)",
    ] {
        assert!(Filter::compile_condition(text).is_ok(), "{text}");
    }
}

#[test]
fn a_fault_has_its_place_in_the_filter() {
    let cases = [
        ("", "expected term, at line 1, column 1 (the end)"),
        (".a |", "expected term, at line 1, column 5 (the end)"),
        (
            ".status = ",
            "expected term, at line 1, column 11 (the end)",
        ),
        (
            ".a\n| {b: §}",
            "expected closing brace, at line 2, column 7: §}",
        ),
        (
            "(.a",
            "expected closing parenthesis, at line 1, column 4 (the end)",
        ),
        (
            "if . then 1",
            "expected else or end, at line 1, column 12 (the end)",
        ),
        (
            "nope(1)",
            "the filter nope/1 is not known, at line 1, column 1: nope(1)",
        ),
        (
            "$x",
            "the variable $x is not known, at line 1, column 1: $x",
        ),
        (
            "break $x",
            "the label $x is not known, at line 1, column 7: $x",
        ),
    ];
    for (text, expected) in cases {
        let fault = Filter::compile(text).map(|_| ()).unwrap_err();
        assert_eq!(fault, expected, "{text}");
    }
}

#[test]
fn nothing_outside_the_input_can_be_reached() {
    let outside = [
        "env",
        "$ENV",
        "env.PATH",
        "input",
        "[inputs]",
        "debug",
        "debug(1)",
        "stderr",
        "halt",
        "halt_error",
        "halt_error(1)",
        "input_filename",
        "input_line_number",
        "localtime",
        "strflocaltime(\"%Z\")",
        "get_search_list",
        "debug_empty",
        "stderr_empty",
        "include \"a\"; .",
        "import \"a\" as a; a::b",
        "import \"a\" as $a; $a",
    ];
    for text in outside {
        let fault = Filter::compile(text).map(|_| ()).expect_err(text);
        assert!(fault.contains("line 1, column"), "{text}: {fault}");
    }
}

#[test]
fn an_error_says_what_happened_and_nothing_of_the_input() {
    let input = json!({ "secret": "Mira Lindqvist 1984", "list": ["Mira"], "object": {"Mira": 1} });
    let cases = [
        (".secret | sort", "it uses a string as array"),
        (
            ".secret | .[]",
            "it uses a string as iterable (array or object)",
        ),
        (
            ".secret | keys",
            "it uses a string as iterable (array or object)",
        ),
        (".object | test(\"a\")", "it uses an object as string"),
        (".list | test(\"a\")", "it uses an array as string"),
        (".missing | test(\"a\")", "it uses null as string"),
        ("-1 | test(\"a\")", "it uses a number as string"),
        ("false | test(\"a\")", "it uses true or false as string"),
        (
            ".secret.name",
            "it takes a part of a value that has no such parts",
        ),
        (
            ".list - .object",
            "it calculates with values of kinds that do not go together",
        ),
        (".secret | tonumber", "it reads a text as what it is not"),
        (".secret | error", "it gives an error; its text is left out"),
        ("error(.secret)", "it gives an error; its text is left out"),
        (
            "error({a: .secret})",
            "it gives an error; its text is left out",
        ),
        ("error(\"no label\")", "it gives the error \"no label\""),
        (
            ".secret | test(\"(\")",
            "it holds a regular expression that cannot be read",
        ),
        (
            ".secret as $s | 1 |= $s",
            "it changes what is not a part of its input",
        ),
        (
            "{(.list): 1}",
            "a key of an object in the filter's output is not a text",
        ),
        (".secret | tobytes", "the filter's output holds bytes"),
    ];
    for (text, expected) in cases {
        let error = filter(text).first(&input).expect_err(text);
        assert!(error.starts_with(expected), "{text}: {error}");
        assert!(
            !error.contains("Mira") && !error.contains("1984"),
            "{text}: {error}"
        );
    }
}

#[test]
fn a_filter_without_an_end_is_stopped() {
    let endless = [
        "def f: f; f",
        "def f: 1 + f; f",
        "def f: [f]; f",
        "def f: try f catch f; f",
        "def f: [.] | f; f",
        "[range(1e12)]",
        "last(range(1e12))",
        "[repeat(1)]",
        "until(false; .)",
        "last(repeat(.))",
        "[recurse(.)] | length",
        "reduce range(1e9) as $i (0; . + $i)",
        "reduce repeat(1) as $i (null; [.])",
        "reduce range(1e9) as $i (null; {a: .})",
        "try (def f: f; f) catch .",
        "first(range(1; 0; 0))| until(false; . + 1)",
        "label $out | foreach repeat(1) as $i (0; . + 1; if . < 0 then ., break $out else empty end)",
    ];
    for text in endless {
        let filter = Filter::compile_with(text, Duration::from_millis(50), Duration::MAX).unwrap();
        let error = filter.first(&json!({"a": 1})).expect_err(text);
        assert!(error.starts_with("the filter "), "{text}: {error}");
    }
}

#[test]
fn however_deep_its_values_a_filter_does_not_break_the_stack() {
    for text in [
        "reduce repeat(1) as $i (null; [.])",
        "def f: [f]; f",
        "def f: 1 + f; f",
    ] {
        let filter = Filter::compile_with(text, Duration::MAX / 2, Duration::MAX).unwrap();
        let error = filter.first(&json!(null)).expect_err(text);
        assert!(
            error.contains("steps") || error.contains("deeply"),
            "{text}: {error}"
        );
    }
}

#[test]
fn an_output_is_bounded() {
    let cases = [
        (
            "reduce range(30) as $i (1; [., .])",
            "the filter's output is larger than 64 MiB",
        ),
        (
            "reduce range(200) as $i (1; [.])",
            "the filter's output is nested more than 120 deep",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(
            filter(text).first(&json!(null)),
            Err(expected.to_owned()),
            "{text}"
        );
    }
    let large = "x".repeat(8 << 20);
    let same = filter(".").first(&json!([large])).unwrap().unwrap();
    assert_eq!(same[0].as_str().map(str::len), Some(large.len()));
}

#[tokio::test]
async fn what_cannot_be_stopped_is_left_behind_and_its_filter_refused_until_it_ends() {
    // 2^26 comparisons in one step of the interpreter.
    let patience = Duration::from_millis(20);
    let filter = Filter::compile_with(
        "def tree: reduce range(.) as $i (1; [., .]); if . == 1 then 1 else tree == tree end",
        WORK_LIMIT,
        patience,
    )
    .unwrap();
    let quick = json!(1);
    assert_eq!(filter.run_limited(&quick).await, Ok(Some(json!(1))));
    let error = filter.run_limited(&json!(26)).await.unwrap_err();
    assert_eq!(error.sentence, "the filter takes longer than 20ms");
    assert!(!error.passes);
    let refused = filter.run_limited(&quick).await.unwrap_err();
    let sentence = &refused.sentence;
    assert!(sentence.starts_with("an earlier evaluation"), "{sentence}");
    assert!(refused.passes, "it is nothing that the input can do about");
    let other = Filter::compile(". == 1").unwrap();
    assert_eq!(other.is_true_limited(&quick).await, Ok(true));
    while !filter.0.running().is_empty() {
        tokio::task::yield_now().await;
    }
    assert_eq!(filter.run_limited(&quick).await, Ok(Some(json!(1))));
}

#[tokio::test]
async fn many_evaluations_at_once_all_end() {
    let filter = filter(".n * 2");
    let all = (0..200).map(|n| {
        let filter = filter.clone();
        tokio::spawn(async move { filter.run_limited(&json!({"n": n})).await })
    });
    for (n, one) in futures_util::future::join_all(all)
        .await
        .into_iter()
        .enumerate()
    {
        assert_eq!(one.unwrap(), Ok(Some(json!(n * 2))));
    }
}
