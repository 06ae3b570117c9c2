//! Files as the disk has them afterwards.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use linkspan_model::config::{Config, Reference};
use linkspan_model::{DeliveryId, InvocationId};
use serde_json::{Value, json};

use super::*;
use crate::channels::VerdictKind;
use crate::store::Endpoint;

fn open(folder: &Path, keys: &str) -> Result<File, String> {
    let toml = format!(
        "[service.s]\ntask = \"sentiment\"\n[integration.i]\npattern = \"async\"\nsteps = [\"s\"]\ndeliver = [{{ {keys} }}]\n"
    );
    let nothing = |_: Reference<'_>| Err("nothing".to_owned());
    let config = Config::parse(&toml, "test.toml", &nothing).unwrap();
    let item = &config.integrations.values().next().unwrap().deliver[0];
    let deliver::Channel::File(file) = &item.channel else {
        panic!("not a file");
    };
    File::open(item, file, folder)
}

fn parcel(content: Value) -> Parcel {
    Parcel {
        mapped: false,
        kept_until: None,
        id: DeliveryId::new(),
        job: InvocationId::new(),
        endpoint: Endpoint::new("i", "file"),
        attempt: 1,
        created: Timestamp::UNIX_EPOCH,
        result: content.clone(),
        content,
        traceparent: None,
    }
}

fn result(text: &str) -> Parcel {
    let mut parcel = parcel(Value::Null);
    parcel.content = json!({"id": parcel.job.to_string(), "status": "succeeded", "answers": {"s": {"text": text}}});
    parcel
}

fn kinds(verdicts: &[Verdict]) -> Vec<VerdictKind> {
    verdicts.iter().map(|verdict| verdict.kind).collect()
}

const RETRY: VerdictKind = VerdictKind::Retry { after: None };

#[tokio::test]
async fn a_line_of_json_is_added_for_each_result() {
    let folder = tempfile::tempdir().unwrap();
    let channel = open(folder.path(), r#"file = "new/folder/out.jsonl""#).unwrap();
    let parcels = [result("one\ntwo"), result("three")];
    let verdicts = channel.send(&parcels).await;
    assert_eq!(
        kinds(&verdicts),
        [VerdictKind::Delivered; 2],
        "{verdicts:?}"
    );
    assert_eq!(
        kinds(&channel.send(&[parcel(json!(7))]).await),
        [VerdictKind::Delivered]
    );
    let text = std::fs::read_to_string(folder.path().join("new/folder/out.jsonl")).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(
        lines,
        [
            parcels[0].content.clone(),
            parcels[1].content.clone(),
            json!(7)
        ]
    );
    assert_eq!(channel.receiver(), "out.jsonl");
}

#[tokio::test]
async fn half_a_line_is_cut_off_and_a_foreign_one_only_ended() {
    let whole = "{\"a\":1}\n";
    for (there, kept) in [
        ("{\"a\":1}\n{\"b\":", whole.to_owned()),
        ("{\"a\":1}\n{\"b\":\"é", whole.to_owned()),
        // The start of a number is a number: it may be somebody's.
        ("{\"a\":1}\n12", format!("{whole}12\n")),
        ("{\"a\":", String::new()),
        ("{\"a\":1}", whole.to_owned()),
        ("{\"a\":1}\nnot ours", format!("{whole}not ours\n")),
        ("", String::new()),
        (whole, whole.to_owned()),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.jsonl");
        // Torn within a letter, too.
        let bytes = there
            .strip_suffix('é')
            .map_or(there.as_bytes().to_vec(), |start| {
                [start.as_bytes(), &[0xc3]].concat()
            });
        std::fs::write(&path, bytes).unwrap();
        let channel = open(folder.path(), r#"file = "out.jsonl""#).unwrap();
        channel.send(&[parcel(json!({"new": true}))]).await;
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, format!("{kept}{{\"new\":true}}\n"), "{there:?}");
    }
}

#[tokio::test]
async fn what_tears_between_two_writes_is_mended_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let channel = open(folder.path(), r#"file = "out.jsonl""#).unwrap();
    channel.send(&[parcel(json!({"n": 1}))]).await;
    let mut text = std::fs::read_to_string(&path).unwrap();
    text.push_str("{\"n\": 2");
    std::fs::write(&path, &text).unwrap();
    channel.send(&[parcel(json!({"n": 3}))]).await;
    assert_eq!(
        std::fs::read_to_string(&path).unwrap(),
        "{\"n\":1}\n{\"n\":3}\n"
    );
    // Moved away by a rotation: a new file begins.
    std::fs::rename(&path, folder.path().join("old.jsonl")).unwrap();
    channel.send(&[parcel(json!({"n": 4}))]).await;
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"n\":4}\n");
}

#[tokio::test]
async fn a_further_attempt_adds_no_second_line_where_the_line_has_the_invocations_id() {
    for keys in [r#"file = "out""#, r#"file = "out", format = "csv""#] {
        let folder = tempfile::tempdir().unwrap();
        let channel = open(folder.path(), keys).unwrap();
        let (mut with_id, mut without) = (
            result("a \"quoted\"\ntext"),
            parcel(json!({"status": "succeeded"})),
        );
        channel.send(&[with_id.clone(), without.clone()]).await;
        let before = std::fs::read_to_string(folder.path().join("out")).unwrap();
        (with_id.attempt, without.attempt) = (2, 2);
        let verdicts = channel.send(&[with_id.clone()]).await;
        assert_eq!(kinds(&verdicts), [VerdictKind::Delivered]);
        assert_eq!(
            std::fs::read_to_string(folder.path().join("out")).unwrap(),
            before,
            "{keys}"
        );
        // Without the id it may be another delivery's line: rather twice than never.
        channel.send(&[without]).await;
        assert!(
            std::fs::read_to_string(folder.path().join("out"))
                .unwrap()
                .len()
                > before.len(),
            "{keys}"
        );
    }
}

#[tokio::test]
async fn rows_have_the_columns_of_the_first_content_or_of_the_header_that_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let keys = r#"file = "out.csv", format = "csv", map = "{x: 1}""#;
    let channel = open(folder.path(), keys).unwrap();
    let first = parcel(json!({"id": "a,b", "n": -0.5, "deep": {"k": [1]}, "none": null}));
    let second = parcel(json!({"n": true, "new": null}));
    let third = parcel(json!("no object"));
    let verdicts = channel.send(&[first, third, second]).await;
    assert_eq!(
        kinds(&verdicts),
        [
            VerdictKind::Delivered,
            VerdictKind::Dead,
            VerdictKind::Delivered
        ]
    );
    assert!(verdicts[1].detail.contains("needs an object"));
    let text = std::fs::read_to_string(folder.path().join("out.csv")).unwrap();
    assert_eq!(
        text,
        "id,n,deep,none\r\n\"a,b\",-0.5,\"{\"\"k\"\":[1]}\",\r\n,true,,\r\n"
    );

    std::fs::write(folder.path().join("there.csv"), "n,id").unwrap();
    let channel = open(
        folder.path(),
        r#"file = "there.csv", format = "csv", map = "{x: 1}""#,
    )
    .unwrap();
    channel.send(&[parcel(json!({"id": "x", "n": 2}))]).await;
    let text = std::fs::read_to_string(folder.path().join("there.csv")).unwrap();
    assert_eq!(text, "n,id\n2,x\r\n");
}

#[tokio::test]
async fn a_row_with_keys_that_the_header_lacks_is_a_dead_letter_that_names_those_of_the_filter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.csv");
    for (map, content, told) in [
        (
            ", map = '{id, label: 1, when: 2}'",
            json!({"id": 1, "label": 2, "when": 3}),
            "lacks: label, when; ",
        ),
        (
            ", map = '{id, label: 1} + .answers.s'",
            json!({"id": 1, "label": 2, "Ilse": 3, "Mart": 4}),
            "lacks: label and 2 that map takes from the result; ",
        ),
        (
            "",
            json!({"id": 1, "status": "x", "answers": {}}),
            "lacks: status, answers; ",
        ),
    ] {
        std::fs::write(&path, "id,n\n").unwrap();
        let keys = format!(r#"file = "out.csv", format = "csv"{map}"#);
        let channel = open(folder.path(), &keys).unwrap();
        let verdicts = channel
            .send(&[parcel(json!({"id": 0})), parcel(content)])
            .await;
        assert_eq!(
            kinds(&verdicts),
            [VerdictKind::Delivered, VerdictKind::Dead]
        );
        assert!(verdicts[1].detail.contains(told), "{}", verdicts[1].detail);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "id,n\n0,\r\n");
    }
}

#[tokio::test]
async fn a_result_document_has_a_column_for_its_error_from_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let channel = open(folder.path(), r#"file = "out.csv", format = "csv""#).unwrap();
    channel
        .send(&[parcel(json!({"id": "1", "status": "succeeded"}))])
        .await;
    channel
        .send(&[parcel(
            json!({"id": "2", "status": "failed", "error": {"code": "x"}}),
        )])
        .await;
    let text = std::fs::read_to_string(folder.path().join("out.csv")).unwrap();
    let expected = "id,integration,status,answers,steps,error\r\n1,,succeeded,,,\r\n2,,failed,,,\"{\"\"code\"\":\"\"x\"\"}\"\r\n";
    assert_eq!(text, expected);
}

#[tokio::test]
async fn no_cell_is_a_formula_wherever_a_spreadsheet_splits_it_and_a_number_stays_one() {
    let cases = [
        (json!("=1+1"), "'=1+1"),
        (json!("+1"), "'+1"),
        (json!("-1"), "'-1"),
        (json!("@x"), "'@x"),
        (json!("a=b-c"), "a=b-c"),
        (json!("\tx"), "\"'\tx\""),
        (json!("\rx"), "\"'\rx\""),
        (json!("\n=1"), "\"'\n'=1\""),
        (json!("a;=1+1"), "\"a;'=1+1\""),
        (json!("a; \"=1\";2"), "\"a; \"\"'=1\"\";2\""),
        (json!("a\t@x"), "\"a\t'@x\""),
        (json!("a\r\n -1"), "\"a\r\n '-1\""),
        (json!(["a;=1"]), "\"[\"\"a;'=1\"\"]\""),
        (json!(-1), "-1"),
        (json!(true), "true"),
    ];
    for (value, cell) in cases {
        let folder = tempfile::tempdir().unwrap();
        let keys = r#"file = "out.csv", format = "csv", map = "{x: 1}""#;
        let channel = open(folder.path(), keys).unwrap();
        for _ in 0..2 {
            channel
                .send(&[parcel(json!({"=a;=b": value, "n": 1}))])
                .await;
        }
        let text = std::fs::read_to_string(folder.path().join("out.csv")).unwrap();
        let row = format!("{cell},1\r\n");
        assert_eq!(text, format!("\"'=a;'=b\",n\r\n{row}{row}"), "{value}");
    }
}

#[tokio::test]
async fn half_a_row_is_cut_off_by_the_attempt_that_adds_the_whole_one() {
    let whole = "id,text\r\n1,\"two\nlines\"\r\n";
    let row = "2,\"half a\nrow\"\r\n";
    for end in 1..row.len() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        std::fs::write(&path, format!("{whole}{}", &row[..end])).unwrap();
        let channel = open(
            folder.path(),
            r#"file = "out.csv", format = "csv", map = "{x: 1}""#,
        )
        .unwrap();
        let mut torn = parcel(json!({"id": 2, "text": "half a\nrow"}));
        torn.attempt = 2;
        let other = parcel(json!({"id": 3, "text": "x"}));
        let verdicts = channel.send(&[other, torn]).await;
        assert_eq!(kinds(&verdicts), [VerdictKind::Delivered; 2]);
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            format!("{whole}3,x\r\n{row}"),
            "{end}"
        );
    }
}

#[tokio::test]
async fn what_is_not_known_to_be_half_of_ours_is_kept_and_only_ended() {
    for (there, ending) in [
        // A quote within a cell opens nothing, whoever wrote it, and the rows after it are there to stay.
        ("id,text\n1,2,5\" disk\n2,x\r\n3,y\r\n", ""),
        ("id,text\n1,2,5\" disk\n2,x", "\n"),
        ("id,text\n1,x", "\n"),
        ("id,text\n1", "\n"),
        ("id,text\r\n1,x\r", "\n"),
        ("id,text\n1,\"half", "\"\n"),
        ("id,text\n1,\"5 disk\n2,x\r\n3,y\r\n", "\"\n"),
        ("id,text\n1,\"a \"\"b\"\" c\"\n", ""),
        ("\u{feff}\"id\",text\n", ""),
        ("id,text", "\n"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out.csv");
        let keys = r#"file = "out.csv", format = "csv", map = "{x: 1}""#;
        std::fs::write(&path, there).unwrap();
        let mut expected = format!("{there}{ending}");
        // Each time by a gateway that has just started, and as a further attempt.
        for id in 7..9 {
            let channel = open(folder.path(), keys).unwrap();
            let mut parcel = parcel(json!({"id": id, "text": "new"}));
            parcel.attempt = 2;
            let verdicts = channel.send(&[parcel]).await;
            assert_eq!(kinds(&verdicts), [VerdictKind::Delivered], "{there:?}");
            expected.push_str(&format!("{id},new\r\n"));
            let text = std::fs::read_to_string(&path).unwrap();
            assert_eq!(text, expected, "{there:?}");
        }
        // A reader that knows RFC 4180 finds the rows that were added.
        let text = expected.trim_start_matches('\u{feff}').as_bytes();
        let mut rows = ::csv::ReaderBuilder::new().flexible(true).from_reader(text);
        let last: Vec<_> = rows.records().map(Result::unwrap).collect();
        let last: Vec<_> = last[last.len() - 2..].iter().collect();
        assert_eq!(last, [vec!["7", "new"], vec!["8", "new"]], "{there:?}");
    }
}

#[tokio::test]
async fn nobody_but_the_gateways_user_can_read_what_is_made() {
    use std::os::unix::fs::PermissionsExt as _;
    for (keys, made) in [
        (r#"file = "new/folder/out.jsonl""#, "new/folder/out.jsonl"),
        (r#"file = "new/folder", format = "file-per-result""#, ""),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let parcel = result("x");
        let verdicts = open(folder.path(), keys)
            .unwrap()
            .send(std::slice::from_ref(&parcel))
            .await;
        assert_eq!(kinds(&verdicts), [VerdictKind::Delivered]);
        let alone = format!("new/folder/{}.json", parcel.id);
        let file = if made.is_empty() { &alone } else { made };
        for (path, mode) in [("new", 0o700), ("new/folder", 0o700), (file, 0o600)] {
            let made = std::fs::metadata(folder.path().join(path)).unwrap();
            assert_eq!(made.permissions().mode() & 0o777, mode, "{path}");
        }
    }
}

#[tokio::test]
async fn one_file_a_result_is_there_whole_and_alone() {
    let folder = tempfile::tempdir().unwrap();
    let channel = open(
        folder.path(),
        r#"file = "results", format = "file-per-result""#,
    )
    .unwrap();
    let mut parcels = [result("one"), result("two")];
    // What a crash left of the first attempt.
    std::fs::create_dir(folder.path().join("results")).unwrap();
    std::fs::write(
        folder
            .path()
            .join(format!("results/.{}.1.part", parcels[0].id)),
        "{\"ha",
    )
    .unwrap();
    parcels[0].attempt = 2;
    for _ in 0..2 {
        assert_eq!(
            kinds(&channel.send(&parcels).await),
            [VerdictKind::Delivered; 2]
        );
    }
    let mut names: Vec<String> = std::fs::read_dir(folder.path().join("results"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        parcels.clone().map(|parcel| format!("{}.json", parcel.id))
    );
    for parcel in &parcels {
        let path = folder.path().join(format!("results/{}.json", parcel.id));
        let there: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert_eq!(there, parcel.content);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_channels_and_another_program_write_one_file_line_by_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let write = |channel: File| async move {
        for _ in 0..50 {
            let verdicts = channel
                .send(&[result(&"x".repeat(5000)), result("y")])
                .await;
            assert_eq!(
                kinds(&verdicts),
                [VerdictKind::Delivered; 2],
                "{verdicts:?}"
            );
        }
    };
    let mut tasks: Vec<_> = ["out.jsonl", "../HERE/out.jsonl", "./out.jsonl"]
        .iter()
        .map(|name| {
            name.replace(
                "HERE",
                &folder.path().file_name().unwrap().to_string_lossy(),
            )
        })
        .map(|name| {
            tokio::spawn(write(
                open(folder.path(), &format!("file = {name:?}")).unwrap(),
            ))
        })
        .collect();
    // Another program: a writer of its own, which knows nothing of the others but the file's lock.
    let mut alone = open(folder.path(), r#"file = "out.jsonl""#).unwrap();
    alone.writer = Arc::new(Mutex::new(Appender::new(path.clone())));
    tasks.push(tokio::spawn(write(alone)));
    for task in tasks {
        task.await.unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    let mut ids: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].to_string())
        .collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 4 * 50 * 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_programs_lock_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.jsonl");
    let other = std::fs::File::create(&path).unwrap();
    other.lock_shared().unwrap();
    let channel = open(folder.path(), r#"file = "out.jsonl""#).unwrap();
    let parcels = [result("x")];
    let mut sending = std::pin::pin!(channel.send(&parcels));
    let early = tokio::time::timeout(Duration::from_millis(100), &mut sending).await;
    assert!(early.is_err(), "{early:?}");
    assert_eq!(std::fs::read(&path).unwrap(), b"");
    other.unlock().unwrap();
    assert_eq!(kinds(&sending.await), [VerdictKind::Delivered]);
    assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 1);
}

#[tokio::test]
async fn a_full_disk_leaves_no_half_line_and_is_tried_again() {
    // The kernel's own full disk.
    let channel = open(Path::new("/dev"), r#"file = "full""#).unwrap();
    let verdicts = channel.send(&[result("x")]).await;
    assert_eq!(kinds(&verdicts), [RETRY]);
    assert!(verdicts[0].detail.contains("full"), "{verdicts:?}");
}

#[tokio::test]
async fn what_cannot_be_written_is_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("plain"), "").unwrap();
    let channel = open(folder.path(), r#"file = "plain/out.jsonl""#).unwrap();
    let verdicts = channel.send(&[result("secret text")]).await;
    assert_eq!(kinds(&verdicts), [RETRY]);
    assert!(!verdicts[0].detail.contains("secret"));
}

#[test]
fn a_path_that_cannot_be_what_the_format_needs_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    std::fs::write(folder.path().join("plain"), "").unwrap();
    let _lines = open(folder.path(), r#"file = "shared""#).unwrap();
    for (keys, part) in [
        (r#"file = "folder""#, "is a folder"),
        (
            r#"file = "plain", format = "file-per-result""#,
            "is not a folder",
        ),
        (r#"file = "..""#, "names no file"),
        (r#"file = "folder/../shared", format = "csv""#, "json-lines"),
    ] {
        let error = open(folder.path(), keys).unwrap_err();
        assert!(error.contains(part), "{keys}: {error}");
    }
}
