//! Every fault, with its line, its key, what is wrong and what to do.

use super::{SMALL, parse};

/// Checks a file's faults, a line each, without the file's name.
#[track_caller]
fn check(text: &str, expected: &[&str]) {
    let found = match parse(text) {
        Ok(config) => panic!("no fault found; warnings: {:?}", config.warnings),
        Err(faults) => faults.to_string(),
    };
    let expected: Vec<_> = expected
        .iter()
        .map(|fault| format!("linkspan.toml:{fault}"))
        .collect();
    assert_eq!(found, expected.join("\n"));
}

/// Checks the faults of [`SMALL`] with lines added to its integration; the first added line is line 7.
#[track_caller]
fn check_integration(added: &str, expected: &[&str]) {
    check(&format!("{SMALL}{added}\n"), expected);
}

#[test]
fn an_unknown_key_names_the_nearest_known_one() {
    check_integration(
        "dedline = \"5s\"",
        &["7: integration.reviews.dedline: unknown key; did you mean \"deadline\"?"],
    );
    check(
        "[sever]\n",
        &["1: sever: unknown key; did you mean \"server\"?"],
    );
    check(
        "[services.mood]\ntask = \"sentiment\"\n",
        &["1: services: unknown key; did you mean \"service\"?"],
    );
    check(
        "[service.mood]\ntask = \"sentiment\"\ncolour = 1\n",
        &["3: service.mood.colour: unknown key; the keys here are task, engine, options"],
    );
    check(
        "server.tls = { cert = \"a\", key = \"b\", client-ca = \"c\" }",
        &["1: server.tls.client-ca: unknown key; did you mean \"client_ca\"?"],
    );
    check(
        "\"two\\nlines\" = 1",
        &[
            "1: \"two\\nlines\": unknown key; the keys here are server, store, worker, limits, outbound, console, email, streams, service, integration, kafka, replicate",
        ],
    );
}

#[test]
fn every_fault_of_a_file_is_told_at_once_by_line() {
    check(
        "[integration.reviews]\npattern = \"stream-in\"\nsteps = [\n  \"mood\",\n  \"langauge\",\n]\n\
         [integration.Calls]\npattern = \"async\"\nsteps = [\"modo\"]\n\
         [service.mood]\ntask = \"sentimental\"\n[service.language]\ntask = \"detect-language\"\n\
         [server]\nlisten = \"localhost:8080\"\nmax_body = 12\nmetrics = \"yes\"\nrate_limit = -1\n",
        &[
            "2: integration.reviews.pattern: \"stream-in\" reads records: say where from, such as source = { kinesis = \"STREAM\" }",
            "5: integration.reviews.steps[1]: there is no service \"langauge\"; did you mean \"language\"?",
            "7: integration.Calls: is not a name: use 1 to 63 of a-z, 0-9 and -, with a letter or a digit first",
            "11: service.mood.task: \"sentimental\" is not \"extract-text\", \"proof-of-identity\", \
             \"detect-language\" or \"sentiment\"; did you mean \"sentiment\"?",
            "15: server.listen: \"localhost:8080\" is not an IP address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"",
            "16: server.max_body: must be a size such as \"64 KiB\" or \"20 MB\", not a number",
            "17: server.metrics: must be true or false, not a string",
            "18: server.rate_limit: must not be negative",
        ],
    );
}

#[test]
fn what_is_not_toml_is_told_with_its_line_and_with_the_faults_of_other_lines() {
    let faults =
        parse("[server]\nlisten = \nmax_body == \"1 KiB\"\nlog_formt = \"json\"\n").unwrap_err();
    let lines: Vec<_> = faults
        .iter()
        .map(|fault| (fault.line, fault.key.as_str()))
        .collect();
    assert!(
        lines.contains(&(2, "")) && lines.contains(&(3, "")),
        "{faults}"
    );
    assert!(lines.contains(&(4, "server.log_formt")), "{faults}");

    let twice = parse("[server]\nmetrics = true\nmetrics = false\n")
        .unwrap_err()
        .to_string();
    assert_eq!(twice, "linkspan.toml:3: not valid TOML: duplicate key");
}

#[test]
fn a_value_of_the_wrong_kind_or_size_says_what_is_right() {
    check_integration(
        "deadline = \"5\"",
        &["7: integration.reviews.deadline: \"5\" has no unit: write \"5s\" or \"5ms\""],
    );
    check_integration(
        "deadline = \"2h\"",
        &["7: integration.reviews.deadline: \"2h\" is out of range: from 10ms to 1h"],
    );
    check_integration(
        "concurrency = 99999999999999999999",
        &[
            "7: integration.reviews.concurrency: 99999999999999999999 is out of range: from 1 to 10000",
        ],
    );
    check_integration(
        "max_body = \"64 Mb\"",
        &[
            "7: integration.reviews.max_body: \"64 Mb\" has an unknown unit: the units are B, KB, KiB, MB, MiB, GB, GiB, TB, TiB",
        ],
    );
    check("server = 3", &["1: server: must be a table, not a number"]);
    check(
        "service.mood = \"sentiment\"",
        &["1: service.mood: must be a table, not a string"],
    );
    check(
        "service.mood = {}",
        &[
            "1: service.mood.task: is missing: give \"extract-text\", \"proof-of-identity\", \"detect-language\" or \"sentiment\"",
        ],
    );
    check(
        "server.cors_origins = [\"*\", \"https://a.example/x\", 3]",
        &[
            "1: server.cors_origins[0]: \"*\" would let every web page call the gateway: name each origin",
            "1: server.cors_origins[1]: \"https://a.example/x\" is not a web origin such as \"https://portal.example.com\", in small \
         letters and without a path",
            "1: server.cors_origins[2]: must be a web origin such as \"https://portal.example.com\", not a number",
        ],
    );
    check(
        "service.text = { task = \"extract-text\", options = { dpi = nan, big = 9223372036854775808 } }",
        &[
            "1: service.text.options.dpi: must be a finite number",
            "1: service.text.options.big: is out of range: a whole number has at most 64 bits",
        ],
    );
    check(
        "[server.tls]\ncert = \"tls/cert.pem\"\n",
        &["1: server.tls.key: is missing: give a path such as \"tls/cert.pem\""],
    );
}

#[test]
fn what_a_later_release_brings_is_known_and_refused() {
    check(
        "[service.mood]\ntask = \"sentiment\"\nengine = { openai = \"http://localhost\", model = \"m\" }\nfallback = [\"builtin\"]\n",
        &[
            "3: service.mood.engine: providers come in a later release; this one knows \"builtin\"",
            "4: service.mood.fallback: comes in a later release, with providers; remove it",
        ],
    );
    check(
        "[service.calls]\ntask = \"transcribe\"\n",
        &[
            "2: service.calls.task: \"transcribe\" comes in a later release; this one knows \"extract-text\", \
             \"proof-of-identity\", \"detect-language\" or \"sentiment\"",
        ],
    );
}

#[test]
fn an_address_of_a_store_names_a_path() {
    check(
        "[store]\njobs = \"sqlite:\"\nblobs = \"file://host/x\"\n",
        &[
            "2: store.jobs: \"sqlite:\" names no path: write \"sqlite:PATH\"",
            "3: store.blobs: \"file://host/x\" names a host: write \"file:PATH\"",
        ],
    );
    let config = parse("store.blobs = \"file:///var/blobs\"").unwrap();
    assert_eq!(config.store.blobs.to_string(), "file:/var/blobs");
}

#[test]
fn a_password_of_a_database_stands_in_no_file_and_in_no_fault() {
    let password = "store.jobs: the address holds a password, which must not stand in the file: write \"${env:DATABASE_URL}\", with \
                    the whole address in that variable";
    for address in [
        "postgres://linkspan:sesame@db/linkspan",
        "postgresql://db/linkspan?user=linkspan&password=sesame",
        "postgres://linkspan:ses@ame@db",
    ] {
        check(
            &format!("store.jobs = \"{address}\""),
            &[&format!("1: {password}")],
        );
    }
    for (address, fault) in [
        (
            "postgres://db",
            "\"postgres://db\" names no database: write \"postgres://HOST/DATABASE\"",
        ),
        (
            "postgres:///linkspan",
            "\"postgres:///linkspan\" names no host: write \"postgres://HOST/DATABASE\"",
        ),
        (
            "postgres://linkspan@db/link span",
            "the address holds a blank: write it as %20",
        ),
        (
            "mysql://db/linkspan",
            "\"mysql://db/linkspan\" is not the address of a database such as \"sqlite:data/linkspan.db\" or \
             \"postgres://db.internal/linkspan\"",
        ),
    ] {
        check(
            &format!("store.jobs = \"{address}\""),
            &[&format!("1: store.jobs: {fault}")],
        );
    }
    check(
        "store.jobs = \"${env:TOKEN}\"",
        &[
            "1: store.jobs: the value of ${env:TOKEN} is not the address of a database such as \"sqlite:data/linkspan.db\" or \
           \"postgres://db.internal/linkspan\"",
        ],
    );
}

#[test]
fn an_address_of_a_database_shows_its_place_only() {
    for (written, shown) in [
        ("${env:DATABASE_URL}", "postgres://db/linkspan"),
        (
            "postgresql://linkspan@a:5432,b/jobs?sslmode=require",
            "postgres://a:5432,b/jobs",
        ),
        ("postgres:///jobs?host=/run/postgresql", "postgres:///jobs"),
    ] {
        let config = parse(&format!(
            "store = {{ jobs = \"{written}\", blobs = \"s3://bucket\" }}"
        ))
        .unwrap();
        assert_eq!(config.store.jobs.to_string(), shown);
        let debug = format!("{config:?}");
        assert!(!debug.contains("sesame"), "{debug}");
    }
}

#[test]
fn a_bucket_is_named_as_the_store_names_it() {
    for (written, shown) in [
        ("s3://documents", "s3://documents"),
        ("s3://documents/", "s3://documents"),
        ("s3://my.documents/a/b-1_2/", "s3://my.documents/a/b-1_2"),
    ] {
        let config = parse(&format!("store.blobs = \"{written}\"")).unwrap();
        assert_eq!(config.store.blobs.to_string(), shown);
    }
    let bucket =
        "names no bucket: a bucket's name is 3 to 63 small letters, digits, \".\" and \"-\"";
    let prefix = "has a prefix that is not letters, digits, \"-\", \"_\" and \".\" with \"/\" between: write \"s3://BUCKET/PREFIX\"";
    for (address, clause) in [
        ("s3://", bucket),
        ("s3://Documents", bucket),
        ("s3://documents-/a", bucket),
        ("s3://documents//a", prefix),
        ("s3://documents/../a", prefix),
        ("s3://documents/a?b", prefix),
    ] {
        check(
            &format!("store.blobs = \"{address}\""),
            &[&format!("1: store.blobs: \"{address}\" {clause}")],
        );
    }
}

#[test]
fn a_bucket_is_reached_encrypted_and_with_a_whole_key() {
    check(
        "[store]\ns3.endpoint = \"http://minio:9000\"\ns3.access_key_id = \"${env:TOKEN}\"\n",
        &[
            "2: store.s3.endpoint: documents would go there unencrypted: use https, or set allow_http = true where the network between is trusted",
            "2: store.s3: access_key_id and secret_access_key belong together: give both, or neither to take them from the environment",
        ],
    );
    check(
        "store.s3.secret_access_key = \"sesame\"",
        &[
            "1: store.s3.secret_access_key: a secret must not stand in the file: write \"${env:NAME}\" or \"${file:PATH}\"",
        ],
    );
}

#[test]
fn a_shared_database_with_a_folder_of_documents_or_a_file_of_results_is_a_warning() {
    let config = parse(&format!(
        "{SMALL}overflow = \"async\"\ndeliver = [{{ file = \"a\" }}]\n[store]\njobs = \"${{env:DATABASE_URL}}\"\n"
    ))
    .unwrap();
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert!(
        warnings.len() == 2
            && warnings[0].contains("deliver[0].file: a file is one gateway's")
            && warnings[1].contains("store.blobs: a folder is one gateway's"),
        "{warnings:?}"
    );
}

#[test]
fn a_chain_must_have_its_texts() {
    const SERVICES: &str = "[service]\ntext.task = \"extract-text\"\nidentity.task = \"proof-of-identity\"\n\
                            mood.task = \"sentiment\"\nlanguage.task = \"detect-language\"\n";
    let file =
        |steps: &str| format!("{SERVICES}[integration.it]\npattern = \"async\"\nsteps = {steps}\n");
    let lacks = |at: usize, name: &str, task: &str, first: &str| {
        format!(
            "8: integration.it.steps[{at}]: \"{name}\" does not fit here: {task} takes a text, but the request brings a document \
             (for {first}) and no step before this one gives a text: put a service of the task extract-text before it, or give it an \
             integration of its own"
        )
    };
    for fits in [
        "[\"text\", \"mood\"]",
        "[\"mood\", \"language\"]",
        "[\"identity\", \"text\", \"language\", \"mood\"]",
        "[\"text\", \"mood\", \"identity\"]",
    ] {
        parse(&file(fits)).unwrap();
    }
    check(
        &file("[\"identity\", \"mood\"]"),
        &[&lacks(1, "mood", "sentiment", "proof-of-identity")],
    );
    check(
        &file("[\"language\", \"text\", \"mood\"]"),
        &[&lacks(0, "language", "detect-language", "extract-text")],
    );
    check(
        &file("[]"),
        &["8: integration.it.steps: must name at least one service"],
    );
    check(
        &file("[\"mood\", \"mood\"]"),
        &[
            "8: integration.it.steps[1]: \"mood\" is named twice: the result holds one answer a service",
        ],
    );
    check(
        &file("[\"zzz\"]"),
        &[
            "8: integration.it.steps[0]: there is no service \"zzz\": declare [service.zzz] with its task",
        ],
    );
}

#[test]
fn an_address_that_others_reach_needs_keys_and_tls() {
    let unencrypted = |line: usize, at: &str| {
        format!(
            "{line}: server.listen: keys and documents would go to {at} unencrypted: set tls = {{ cert = \"…\", key = \"…\" }}, or \
             tls_terminated_by_proxy = true where a proxy before the gateway does TLS, or listen on 127.0.0.1"
        )
    };
    let open = |line: usize, at: &str| {
        format!(
            "{line}: server.auth: with \"none\" everyone who reaches {at} could do everything: use auth = \"keys\" (linkspan keys \
             add makes a key), or listen on 127.0.0.1"
        )
    };
    check(
        "[server]\nlisten = \"0.0.0.0:8080\"\n",
        &[&unencrypted(2, "0.0.0.0:8080")],
    );
    check(
        "[server]\nlisten = \"[::]:1\"\nauth = \"none\"\n",
        &[&unencrypted(2, "[::]:1"), &open(3, "[::]:1")],
    );
    check(
        "[server]\nlisten = \"10.0.0.1:1\"\nauth = \"none\"\ntls_terminated_by_proxy = true\n",
        &[&open(3, "10.0.0.1:1")],
    );
    for secured in [
        "listen = \"0.0.0.0:8443\"\ntls = { cert = \"c.pem\", key = \"k.pem\" }",
        "listen = \"0.0.0.0:8080\"\ntls_terminated_by_proxy = true",
        "listen = \"127.0.0.2:8080\"\nauth = \"none\"",
        "listen = \"[::1]:8080\"",
        "listen = \"[::ffff:127.0.0.1]:8080\"",
    ] {
        parse(&format!("[server]\n{secured}\n")).unwrap();
    }
    // A fault of TLS itself is not told a second time as its absence.
    check(
        "[server]\nlisten = \"0.0.0.0:1\"\ntls = { cert = \"c.pem\" }\n",
        &["3: server.tls.key: is missing: give a path such as \"tls/cert.pem\""],
    );
}

#[test]
fn what_is_told_of_a_key_is_not_told_again_of_its_stand_in() {
    check(
        "[integration.it]\npattern = 1\nsteps = \"mood\"\n",
        &[
            "2: integration.it.pattern: must be \"sync\", \"async\", \"stream-in\" or \"full-stream\", not a number",
            "3: integration.it.steps: must be a list, each item the name of a service, not a string",
        ],
    );
}

#[test]
fn bounds_must_agree_with_each_other() {
    check_integration(
        "max_body = \"1 GiB\"",
        &[
            "7: integration.reviews.max_body: 1 GiB is more than server.max_body (64 MiB): raise that first",
        ],
    );
    check_integration(
        "retention = \"60d\"",
        &[
            "7: integration.reviews.retention: 60d is longer than store.row_retention (30d): raise that first",
        ],
    );
    check_integration(
        "backoff = { first = \"10m\" }",
        &[
            "7: integration.reviews.backoff: the first wait (10m) is longer than the longest (5m): lower first or raise max",
        ],
    );
    check(
        "store.row_retention = \"1d\"",
        &[
            "1: store.row_retention: 1d is shorter than store.retention (7d): raise this or lower that",
        ],
    );
}

#[test]
fn a_reference_is_whole_and_its_value_is_never_told() {
    check(
        "server.listen = \"${env:NONE}\"",
        &["1: server.listen: ${env:NONE}: the environment variable NONE is not set: set it first"],
    );
    check(
        "server.listen = \"${env:TOKEN}\"",
        &[
            "1: server.listen: the value of ${env:TOKEN} is not an IP address and a port such as \"127.0.0.1:8080\" or \"[::1]:8080\"",
        ],
    );
    check(
        "server.listen = \"${vault:x}\"",
        &["1: server.listen: a reference is \"${env:NAME}\" or \"${file:PATH}\""],
    );
    check(
        "store.jobs = \"sqlite:${env:DATA}/x\"",
        &[
            "1: store.jobs: a reference must be the whole string: put what stands around it into the value, such as \"Bearer …\" for a header",
        ],
    );
}

#[test]
fn an_unused_service_is_a_warning() {
    let config = parse(&format!("{SMALL}[service.text]\ntask = \"extract-text\"\n")).unwrap();
    let warnings: Vec<_> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        ["linkspan.toml:7: service.text: no integration uses this service"]
    );
}

/// Checks the faults of [`SMALL`] with an identity provider that has these further keys; the first of them is line 10.
#[track_caller]
fn check_provider(added: &str, expected: &[&str]) {
    let provider = "[console.oidc]\nissuer = \"https://id.example.com\"\nclient_id = \"linkspan\"";
    check(&format!("{SMALL}{provider}\n{added}\n"), expected);
}

#[test]
fn a_provider_lets_somebody_in_and_nobody_by_mistake() {
    check_provider(
        "",
        &[
            "7: console.oidc: nobody could sign in: name people in admin, or give scopes to the values of a claim by scope_claim and scopes",
        ],
    );
    check_provider(
        "scopes = { staff = [\"read\"] }",
        &["10: console.oidc.scopes: needs scope_claim, which says whose values these are"],
    );
    check_provider(
        "scope_claim = \"groups\"",
        &["10: console.oidc.scope_claim: needs scopes, which says what its values allow"],
    );
    check_provider(
        "scope_claim = \"groups\"\nscopes = { staff = [\"write\", \"read:bills\"], \"ai users\" = [] }",
        &[
            "11: console.oidc.scopes.\"ai users\": gives no scope; the scopes are invoke, read and admin",
        ],
    );
    check_provider(
        "scope_claim = \"groups\"\nscopes = { staff = [\"write\", \"read:bills\", \"read:reviews\"] }",
        &[
            "11: console.oidc.scopes.staff: \"write\" is no scope; the scopes are invoke, read and admin, each alone or with :INTEGRATION",
            "11: console.oidc.scopes.staff: \"read:bills\": there is no integration \"bills\"",
        ],
    );
    check_provider(
        "admin = [\"sub:1\"]\nsuccessors = [\"sub:2\", \"ana@example.com\"]",
        &[
            "11: console.oidc.successors: \"ana@example.com\" is no person: write sub: and the provider's sub",
        ],
    );
}

#[test]
fn a_provider_is_reached_by_tls_and_people_come_back_to_an_address_that_they_can_reach() {
    check(
        "console.oidc = { issuer = \"http://id.example.com\", client_id = \"x\", admin = [\"ana\"] }",
        &[
            "1: console.oidc.issuer: \"http://id.example.com\" is reached without TLS: whoever stands in between could sign in as anybody; an issuer is https://",
        ],
    );
    check(
        "server = { listen = \"0.0.0.0:8080\", tls_terminated_by_proxy = true }\n\
         console.oidc = { issuer = \"https://id.example.com\", client_id = \"x\", admin = [\"ana\"] }",
        &[
            "2: console.oidc: people come back from the provider to server.public_url: set it to the address at which they reach the gateway",
        ],
    );
    check(
        "server.auth = \"none\"\n\
         console.oidc = { issuer = \"https://id.example.com\", client_id = \"x\", admin = [\"ana\"] }",
        &[
            "2: console.oidc: with server.auth = \"none\" nobody signs in: use auth = \"keys\", or remove this",
        ],
    );
}
