//! The schema, the reference and the annotated file agree with the configuration and with the files under `docs/`.

use serde_json::{Value, json};

use super::{SMALL, parse};
use crate::config::{Config, Reference, annotated_example, reference, schema};

#[test]
fn the_annotated_example_is_valid_and_has_no_warning() {
    let config = parse(&annotated_example()).unwrap();
    assert_eq!(config.warnings, []);
    let patterns: Vec<_> = config
        .integrations
        .values()
        .map(|integration| integration.pattern.name())
        .collect();
    for pattern in ["sync", "async", "stream-in"] {
        assert!(patterns.contains(&pattern), "{pattern}");
    }
    for task in crate::config::BUILTIN_TASKS {
        assert!(
            config.services.values().any(|service| service.task == task),
            "{task}"
        );
    }
}

#[test]
fn every_key_that_the_example_comments_out_can_be_put_in() {
    let example = annotated_example();
    let is_key = |line: &str| line.starts_with('#') && !line.starts_with("# ");
    let commented = example.lines().filter(|line| is_key(line)).count();
    assert!(commented > 40, "only {commented}");
    let all: Vec<_> = example
        .lines()
        .map(|line| if is_key(line) { &line[1..] } else { line })
        .collect();
    let all = all.join("\n");
    let known = |_: Reference<'_>| Ok("a value".to_owned());
    Config::parse(&all, "linkspan.toml", &known).unwrap();
}

#[test]
fn every_default_in_the_reference_is_the_one_that_holds() {
    // The reference's rows, as a file that sets each default.
    let mut file = String::new();
    let mut defaults = 0;
    let mut nested = false;
    for line in reference().lines() {
        if let Some(section) = line
            .strip_prefix("## `[")
            .and_then(|rest| rest.strip_suffix("]`"))
        {
            nested = false;
            file.push_str(&match section {
                "service.NAME" => "[service.mood]\ntask = \"sentiment\"\n".to_owned(),
                "integration.NAME" => {
                    "[integration.reviews]\npattern = \"sync\"\nsteps = [\"mood\"]\n".to_owned()
                }
                "email" => "[email]\nserver = \"localhost:25\"\nfrom = \"a@example.com\"\nallowed_domains = []\n".to_owned(),
                "kafka.NAME" => "[kafka.a]\nbrokers = \"a:9092\"\n[kafka.b]\nbrokers = \"b:9092\"\n".to_owned(),
                "replicate.NAME" => "[replicate.it]\nfrom = \"a\"\nto = \"b\"\ntopics = [\"*\"]\n".to_owned(),
                section => format!("[{section}]\n"),
            });
        }
        nested |= line.starts_with("### ");
        let cells: Vec<_> = line.split(" | ").collect();
        if let [key, _, default, _] = cells[..]
            && !nested
            && let Some(default) = default
                .strip_prefix('`')
                .and_then(|rest| rest.strip_suffix('`'))
        {
            file.push_str(&format!(
                "{} = {default}\n",
                key.trim_matches(['|', ' ', '`'])
            ));
            defaults += 1;
        }
    }
    assert!(defaults > 40, "only {defaults}");
    let (explicit, implicit) = (parse(&file).unwrap(), parse(SMALL).unwrap());
    assert_eq!(
        format!("{:?}", explicit.server),
        format!("{:?}", implicit.server)
    );
    assert_eq!(
        format!("{:?}", explicit.store),
        format!("{:?}", implicit.store)
    );
    assert_eq!(
        format!("{:?}", explicit.worker),
        format!("{:?}", implicit.worker)
    );
    assert_eq!(
        format!("{:?}", explicit.limits),
        format!("{:?}", implicit.limits)
    );
    assert_eq!(
        format!("{:?}", explicit.services),
        format!("{:?}", implicit.services)
    );
    assert_eq!(
        format!("{:?}", explicit.integrations),
        format!("{:?}", implicit.integrations)
    );
}

#[test]
fn the_schema_accepts_what_the_configuration_accepts() {
    let schema = schema();
    for file in [SMALL, "", &annotated_example()] {
        assert_eq!(
            violations(&schema, &toml::from_str(file).unwrap(), ""),
            Vec::<String>::new()
        );
    }
    for (file, at) in [
        ("sever = {}", "/sever"),
        ("server.listen = 8080", "/server/listen"),
        ("server.auth = \"password\"", "/server/auth"),
        ("server.rate_limit = -1", "/server/rate_limit"),
        ("service.mood = {}", "/service/mood/task"),
        (
            "server.tls = { cert = \"a\", key = \"b\", ca = \"c\" }",
            "/server/tls/ca",
        ),
        (
            "integration.it = { pattern = \"sync\", steps = [1] }",
            "/integration/it/steps/0",
        ),
    ] {
        assert_eq!(
            violations(&schema, &toml::from_str(file).unwrap(), ""),
            [at]
        );
        assert!(parse(file).is_err(), "{file}");
    }
}

/// Where a value breaks the part of JSON Schema that [`schema`] uses, patterns left out.
fn violations(schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let here = || vec![at.to_owned()];
    if let Some(forms) = schema["oneOf"].as_array() {
        let fits = forms
            .iter()
            .filter(|form| violations(form, value, at).is_empty())
            .count();
        return if fits == 1 { Vec::new() } else { here() };
    }
    if let Some(choices) = schema["anyOf"].as_array() {
        let fits = choices.iter().any(|choice| match choice.get("const") {
            Some(word) => word == value,
            None => value.as_str().is_some_and(|text| text.starts_with("${")),
        });
        return if fits { Vec::new() } else { here() };
    }
    match (schema["type"].as_str().unwrap(), value) {
        ("string", Value::String(_)) | ("boolean", Value::Bool(_)) => Vec::new(),
        ("integer", Value::Number(number)) => {
            let (least, most) = (
                schema["minimum"].as_i64().unwrap(),
                schema["maximum"].as_i64().unwrap(),
            );
            if (least..=most).contains(&number.as_i64().unwrap()) {
                Vec::new()
            } else {
                here()
            }
        }
        ("array", Value::Array(items)) => {
            let each = items.iter().enumerate();
            each.flat_map(|(nth, item)| violations(&schema["items"], item, &format!("{at}/{nth}")))
                .collect()
        }
        ("object", Value::Object(map)) => {
            let required = schema
                .get("required")
                .and_then(Value::as_array)
                .into_iter()
                .flatten();
            let missing = required
                .filter_map(Value::as_str)
                .filter(|key| !map.contains_key(*key));
            let mut found: Vec<_> = missing.map(|key| format!("{at}/{key}")).collect();
            for (key, value) in map {
                let at = format!("{at}/{key}");
                match (
                    schema["properties"].get(key),
                    schema.get("additionalProperties"),
                ) {
                    (Some(property), _) => found.extend(violations(property, value, &at)),
                    (None, Some(Value::Bool(false))) => found.push(at),
                    (None, Some(rest)) => found.extend(violations(rest, value, &at)),
                    (None, None) => {}
                }
            }
            found
        }
        _ => here(),
    }
}

#[test]
fn every_number_has_limits_that_its_type_can_hold() {
    fn walk(schema: &Value) {
        if schema["type"] == json!("integer") {
            assert!(schema["minimum"].as_u64().is_some(), "{schema}");
            assert!(
                schema["maximum"].as_u64().unwrap() < u32::MAX.into(),
                "{schema}"
            );
        }
        match schema {
            Value::Object(map) => map.values().for_each(walk),
            Value::Array(items) => items.iter().for_each(walk),
            _ => {}
        }
    }
    walk(&schema());
}

#[test]
fn the_pages_under_docs_are_up_to_date() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let pretty = serde_json::to_string_pretty(&schema()).unwrap() + "\n";
    for (name, fresh) in [
        ("configuration.md", reference()),
        ("linkspan.schema.json", pretty),
    ] {
        let path = docs.join(name);
        if std::env::var_os("LINKSPAN_UPDATE").is_some() {
            std::fs::create_dir_all(&docs).unwrap();
            std::fs::write(&path, &fresh).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == fresh,
            "docs/{name} does not match the configuration: run LINKSPAN_UPDATE=1 cargo test -p linkspan-model pages"
        );
    }
}
