//! The console in a real browser: what a person sees and does, and that no document harms the page.

mod page;
mod streams;

use linkspan_testkit::{Answer, Gateway, PostgresServer, S3Server, Setup, fixture};
use page::Page;
use serde_json::json;

const TOML: &str = r#"
[service.text]
task = "extract-text"
[service.identity]
task = "proof-of-identity"
[service.mood]
task = "sentiment"
[integration.letters]
pattern = "async"
steps = ["text"]
deliver = [{ name = "archive", file = "out/results.jsonl" }]
[integration.onboarding]
pattern = "sync"
steps = ["identity"]
[integration.reviews]
pattern = "sync"
steps = ["mood"]
"#;

const EVERY_PAGE: [&str; 7] = ["", "try", "jobs", "streams", "deliveries", "keys", "audit"];

fn gateway() -> (Setup, Gateway, String) {
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), TOML);
    let key = setup.key("operations", &["invoke", "read", "admin"]);
    let gateway = setup.serve();
    (setup, gateway, key)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_signs_in_and_sees_every_integration_on_its_pattern() {
    let (_setup, gateway, key) = gateway();
    let page = Page::open(&gateway).await;
    page.fill("input[name=key]", "lsk_not_a_key").await;
    page.click("button[type=submit]").await;
    page.shows(".problem", "A valid key is required").await;
    page.forget_log().await;
    page.sign_in(&key).await;

    page.shows(".pulse.live", "live").await;
    for (pattern, integration) in [
        ("sync", "onboarding"),
        ("sync", "reviews"),
        ("async", "letters"),
    ] {
        let place = format!(".drawing.{pattern} .ships");
        page.shows(&place, integration).await;
    }
    for pattern in ["stream-in", "full-stream"] {
        let place = format!(".dim .drawing.{pattern} .service");
        page.shows(&place, &format!("pattern = \"{pattern}\""))
            .await;
    }
    page.shows(".place.outputs li.on", "Files").await;
    page.shows(".tile .note", gateway.url.trim_start_matches("http://"))
        .await;
    let wires = "return document.querySelectorAll('.drawing .wire').length";
    assert_eq!(page.run(wires).await, json!(4 + 4 + 3 + 4));

    gateway.client(&key).text("reviews", "A good day.").await;
    page.until("return document.querySelector('.tiles').textContent.includes('1 in the last')")
        .await;

    page.click("button[aria-label='Sign out']").await;
    page.shows("h1", "Sign in").await;
    page.close().await;
    let cookie_is_dead = gateway.client("").get("/v1/jobs").await;
    assert_eq!(cookie_is_dead.code(), "unauthenticated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_documents_lines_are_boxed_on_its_page_and_its_job_can_be_looked_at() {
    let (_setup, gateway, key) = gateway();
    let page = Page::open(&gateway).await;
    page.sign_in(&key).await;
    page.go("try?integration=letters").await;
    for (mode, file, pages) in [
        ("sync", "images/notice.png", 1),
        ("async", "pdf/contract.pdf", 1),
    ] {
        page.choose("#document", &fixture(file)).await;
        page.click(&format!("input[value={mode}]")).await;
        page.click("button[type=submit]").await;
        page.shows(".composer .badge.good", "Succeeded").await;
        page.until("return document.querySelectorAll('.picture .box').length > 3")
            .await;
        let counts = page
            .run(
                "return [document.querySelectorAll('.box').length, document.querySelectorAll('[role=option]').length, \
                 document.querySelectorAll('.picture image').length]",
            )
            .await;
        assert_eq!(counts[0], counts[1], "{file}: a box for each line");
        assert_eq!(counts[2], pages, "{file}");
        // Every box lies on the page.
        let outside = "const page = document.querySelector('.picture').viewBox.baseVal; \
            return [...document.querySelectorAll('.box')].filter((box) => { const b = box.getBBox(); \
            return b.x < 0 || b.y < 0 || b.x + b.width > page.width || b.y + b.height > page.height; }).length";
        assert_eq!(page.run(outside).await, 0, "{file}: boxes beside the page");
        page.click("[role=option]:nth-child(3)").await;
        assert_eq!(
            page.run("return document.querySelector('.box.on').dataset.line")
                .await,
            "2"
        );
    }
    page.shows("details.raw", "result document").await;

    page.click(".composer a[href*=jobs]").await;
    page.shows(".head .badge", "Succeeded").await;
    page.shows(".facts", "contract.pdf").await;
    page.shows(".waterfall", "attempt 1").await;
    page.until("return document.querySelectorAll('.picture .box').length > 3")
        .await;
    page.shows(".deliveries-list", "archive").await;
    page.shows(".deliveries-list", "Delivered").await;

    page.go("jobs").await;
    page.shows("tbody", "letters").await;
    page.go("jobs?state=failed").await;
    page.shows(".empty", "No job fits").await;

    page.go("jobs").await;
    page.click("tbody tr:first-child a").await;
    page.click("button.danger").await;
    page.shows("dialog", "erased for good").await;
    page.click("dialog button.danger").await;
    page.shows("h1", "Jobs").await;
    page.until("return document.querySelectorAll('tbody tr').length === 1")
        .await;
    page.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_is_sent_again_and_its_channel_is_paused() {
    let (setup, gateway, key) = gateway();
    let page = Page::open(&gateway).await;
    page.sign_in(&key).await;
    page.go("deliveries").await;
    page.shows(".table", "archive").await;
    // The page sees by itself what others do.
    let job = gateway
        .client(&key)
        .text("letters", "A letter.")
        .await
        .job();
    page.shows(".deliveries-list", "Delivered").await;
    page.click(".deliveries-list button").await;
    page.shows("dialog", "has it already").await;
    page.click("dialog .primary").await;
    let file = setup.folder().join("out/results.jsonl");
    let lines = || std::fs::read_to_string(&file).map_or(0, |text| text.matches(&job).count());
    page.until_here(|| lines() == 2, "the file has the result twice")
        .await;

    page.click("button[aria-label='Pause letters/archive']")
        .await;
    page.fill("dialog input", "the disk is changed").await;
    page.click("dialog .primary").await;
    page.shows(".table", "the disk is changed").await;
    page.go("").await;
    page.shows(
        ".attention",
        "letters/archive is paused: the disk is changed",
    )
    .await;
    page.go("deliveries").await;
    page.click("button[aria-label='Resume letters/archive']")
        .await;
    page.shows(".table", "well").await;
    page.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_makes_a_key_that_is_shown_once_and_revokes_it() {
    let (setup, gateway, key) = gateway();
    let reader = setup.key("reader", &["read"]);
    let page = Page::open(&gateway).await;
    page.sign_in(&key).await;
    page.go("keys").await;
    page.click(".head .primary").await;
    page.fill("dialog input[type=text]", "the importer").await;
    assert_eq!(
        page.run("return document.querySelector('dialog input').checkValidity()")
            .await,
        false,
        "the rule for names holds before anything is sent"
    );
    // A name that is there already gives the new key the other one's jobs.
    page.fill("dialog input[type=text]", "reader").await;
    page.click("dialog .primary").await;
    page.shows("dialog h2", "There is a key of this name").await;
    page.click("dialog:last-of-type .end button").await;
    page.until("return document.querySelectorAll('dialog').length === 1")
        .await;
    page.fill("dialog input[type=text]", "importer").await;
    page.click("dialog .primary").await;
    page.shows("dialog .secret", "lsk_").await;
    let made = page
        .run("return document.querySelector('dialog .secret code').textContent")
        .await;
    let made = gateway.client(made.as_str().unwrap());
    assert_eq!(made.get("/v1/jobs").await.status, 200);
    page.click("dialog .primary").await;
    page.shows("tbody tr:last-child", "importer").await;
    assert_eq!(
        page.run("return document.body.textContent.includes('lsk_')")
            .await,
        false,
        "the key is still on the page"
    );
    page.click("tbody tr:last-child .danger").await;
    page.click("dialog .danger").await;
    page.shows("tbody tr:last-child", "revoked").await;
    assert_eq!(made.get("/v1/jobs").await.code(), "unauthenticated");
    page.go("audit").await;
    page.shows("tbody", "key.revoke").await;

    // Who is no administrator has neither page.
    page.click("button[aria-label='Sign out']").await;
    page.sign_in(&reader).await;
    assert_eq!(
        page.run("return document.querySelectorAll('.side li').length")
            .await,
        5
    );
    page.go("keys").await;
    page.shows("h1", "Not found").await;
    // What an empty list says of others' things is nothing.
    for (hash, said) in [
        ("jobs", "Only your own jobs were looked at"),
        (
            "deliveries?state=dead",
            "Only your own jobs' deliveries were looked at",
        ),
    ] {
        page.go(hash).await;
        page.shows(".empty", said).await;
    }
    page.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_gateway_did_is_seen_where_the_store_is_shared() {
    let bucket = S3Server::start("documents");
    let store = "[store]\njobs = \"${env:DATABASE_URL}\"\nblobs = \"s3://documents/letters\"\n";
    let toml = format!("{TOML}{}\n{store}", bucket.toml());
    let database = PostgresServer::shared().database();
    let setup = Setup::new(env!("CARGO_BIN_EXE_linkspan"), &toml)
        .env("DATABASE_URL", &database)
        .env("S3_KEY_ID", S3Server::ACCESS_KEY_ID)
        .env("S3_SECRET", S3Server::SECRET_ACCESS_KEY);
    let key = setup.key("operations", &["invoke", "read", "admin"]);
    let (gateway, other) = (setup.serve(), setup.serve());
    let page = Page::open(&gateway).await;
    page.sign_in(&key).await;
    page.shows(".tile .label", "Calls, this gateway").await;
    let other = other.client(&key);
    page.go("jobs").await;
    page.shows(".empty", "There are no jobs").await;
    let job = other.text("letters", "A letter.").await.job();
    page.shows("tbody", "Succeeded").await;
    // The other one only tells of the delivery that it makes itself.
    page.go("deliveries").await;
    page.shows(".deliveries-list", "Delivered").await;
    page.go(&format!("jobs/{job}")).await;
    page.shows(".head .badge", "Succeeded").await;
    let deleted = other.request(reqwest::Method::DELETE, &format!("/v1/jobs/{job}"));
    assert_eq!(Answer::of(deleted).await.status, 204);
    page.shows(".problem", "Not found").await;
    page.forget_log().await;
    page.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_that_was_hidden_reads_what_it_missed() {
    let (_setup, gateway, key) = gateway();
    let page = Page::open(&gateway).await;
    page.sign_in(&key).await;
    page.go("jobs").await;
    page.shows(".pulse", "live").await;
    // The minute is over at once.
    page.run(
        "const real = window.setTimeout; window.setTimeout = (work, ms) => real(work, ms === 60000 ? 0 : ms); \
         window.away = true; Object.defineProperty(document, 'hidden', { get: () => window.away }); \
         document.dispatchEvent(new Event('visibilitychange'));",
    )
    .await;
    page.until("return !document.querySelector('.pulse.live')")
        .await;
    let client = gateway.client(&key);
    let job = client.text("letters", "While nobody looked.").await.job();
    client.result(&job).await;
    page.run("window.away = false; document.dispatchEvent(new Event('visibilitychange'));")
        .await;
    page.shows("tbody", "Succeeded").await;
    page.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_encrypted_document_is_shown_with_its_password() {
    let (_setup, gateway, key) = gateway();
    let page = Page::open(&gateway).await;
    page.sign_in(&key).await;
    page.go("try?integration=letters").await;
    page.choose("#document", &fixture("pdf/encrypted-aes-256.pdf"))
        .await;
    page.click("button[type=submit]").await;
    page.shows(".sheet .unlock", "password").await;
    page.fill(".unlock input", "harbour-7").await;
    page.click(".unlock button").await;
    page.until("return document.querySelector('.picture image') !== null")
        .await;
    page.click("details.options summary").await;
    page.fill("#params", r#"{"password": "harbour-7"}"#).await;
    page.click(".composer button[type=submit]").await;
    page.shows(".composer .badge.good", "Succeeded").await;
    page.until("return document.querySelectorAll('.picture .box').length > 0")
        .await;
    page.forget_log().await;

    // A text that is too long for the command is never cut in it.
    page.go("try?integration=reviews").await;
    page.run(&format!(
        "const text = document.querySelector('#text'); text.value = {}; text.dispatchEvent(new Event('input'));",
        json!("It's a good day. ".repeat(200))
    ))
    .await;
    page.shows(".same pre", "--data-binary @body.json").await;
    page.shows(".same", "as body.json first").await;
    page.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_that_is_due_says_what_it_waits_for() {
    let (_setup, gateway, key) = gateway();
    let page = Page::open(&gateway).await;
    page.sign_in(&key).await;
    for (due, endpoint, said) in [
        (
            600_000,
            json!({"configured": true, "breaker": "closed"}),
            "next try in 10 min",
        ),
        (
            -34_000,
            json!({"configured": true, "breaker": "closed"}),
            "due, waits for its receiver",
        ),
        (
            -34_000,
            json!({"configured": true, "breaker": "open"}),
            "due, waits until its receiver answers again",
        ),
        (
            -34_000,
            json!({"configured": false, "breaker": "closed"}),
            "due, but its channel is not configured",
        ),
    ] {
        page.run(&format!(
            "document.querySelector('#shown')?.remove(); import('/console/assets/delivery.js').then((module) => {{ \
             const where = {{ integration: 'letters', channel: 'crm' }}; \
             const one = {{ ...where, id: 'd', job: 'j', kind: 'webhook', receiver: 'r', state: 'pending', attempts: 2, tries: [], \
             created: new Date().toISOString(), due: new Date(Date.now() + {due}).toISOString() }}; \
             const list = module.deliveryList([one], {{ endpoints: [{{ ...where, ...{endpoint} }}] }}); \
             list.id = 'shown'; document.body.append(list); }})"
        ))
        .await;
        page.shows("#shown", said).await;
    }
    page.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_keyboard_alone_is_enough() {
    let (_setup, gateway, key) = gateway();
    let page = Page::open(&gateway).await;
    page.shows("h1", "Sign in").await;
    page.press(&key).await;
    page.press(page::ENTER).await;
    page.shows("h1", "Overview").await;

    page.run("document.activeElement.blur()").await;
    page.tab_to(".skip").await;
    page.press(page::ENTER).await;
    page.until("return document.activeElement.id === 'main'")
        .await;
    page.tab_to(".side a[href='#/try']").await;
    page.press(page::ENTER).await;
    page.until("return document.activeElement.tagName === 'H1' && document.activeElement.textContent === 'Try it'")
        .await;
    page.tab_to("#integration").await;
    page.press("reviews").await;
    page.tab_to("#text").await;
    page.press("I love it. It is terrible.").await;
    page.tab_to("button[type=submit]").await;
    page.press(page::ENTER).await;
    page.shows(".sentiment", "Mixed").await;
    // What is drawn anew leaves the focus where it is.
    page.until("return document.activeElement.type === 'submit'")
        .await;

    page.tab_to(".side a[href='#/keys']").await;
    page.press(page::ENTER).await;
    page.shows("h1", "Keys").await;
    page.tab_to(".head .primary").await;
    page.press(page::ENTER).await;
    page.until("return document.querySelector('dialog')?.contains(document.activeElement)")
        .await;
    page.press(page::ESCAPE).await;
    page.until("return !document.querySelector('dialog') && document.activeElement.matches('.head .primary')")
        .await;
    page.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_fits_a_phone_and_can_be_read_in_both_themes() {
    let (_setup, gateway, key) = gateway();
    let client = gateway.client(&key);
    let document = std::fs::read(fixture("images/notice.png")).unwrap();
    let job = Answer::of(client.invocation("letters").body(document))
        .await
        .job();
    client.result(&job).await;
    let page = Page::open(&gateway).await;
    page.sign_in(&key).await;
    let own = format!("jobs/{job}");
    let mut grounds = Vec::new();
    for theme in ["light", "dark"] {
        for width in [390, 1280] {
            page.screen(width, 844, theme).await;
            page.until("return document.querySelector('.who').checkVisibility()")
                .await;
            for hash in EVERY_PAGE.into_iter().chain([own.as_str()]) {
                page.go(hash).await;
                page.until("return !document.querySelector('.loading')")
                    .await;
                let at = format!("#/{hash} at {width} pixels, {theme}");
                let beyond = page
                    .run("return document.documentElement.scrollWidth - innerWidth")
                    .await;
                assert!(beyond.as_i64().unwrap() <= 0, "{at}: {beyond} beyond");
                assert_eq!(page.run(page::FAINT).await, json!([]), "{at}: hard to read");
                assert_eq!(page.run(page::NAMELESS).await, json!([]), "{at}: no name");
            }
        }
        grounds.push(
            page.run("return getComputedStyle(document.body).backgroundColor")
                .await,
        );
    }
    assert_ne!(grounds[0], grounds[1], "the themes do not differ");

    // On a phone the filters are out of the way until they are wanted.
    page.screen(390, 844, "light").await;
    page.go("deliveries").await;
    let filters = "return document.querySelector('.filters select').checkVisibility()";
    assert_eq!(page.run(filters).await, false);
    page.click(".fold").await;
    assert_eq!(page.run(filters).await, true);
    page.screen(1280, 844, "dark").await;

    // The switch goes before the system, and stays.
    page.click("#theme").await;
    page.reload().await;
    page.until("return document.documentElement.dataset.theme === 'light'")
        .await;
    let ground = page
        .run("return getComputedStyle(document.body).backgroundColor")
        .await;
    assert_eq!(ground, grounds[0]);
    page.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_names_and_contents_do_no_harm() {
    let (_setup, gateway, key) = gateway();
    let folder = tempfile::tempdir().unwrap();
    let name = "<img src=x onerror=window.harmed=1>\u{202e}gpj.<script>window.harmed=1<script>.txt";
    let file = folder.path().join(name);
    let content = format!(
        "Dear customer, </script><img src=x onerror=\"window.harmed=1\">\u{202e}<script>window.harmed=1</script>{}",
        "long ".repeat(1_000_000)
    );
    std::fs::write(&file, &content).unwrap();
    let page = Page::open(&gateway).await;
    page.sign_in(&key).await;
    page.go("try?integration=letters").await;
    for mode in ["sync", "async"] {
        page.choose("#document", &file).await;
        page.shows(".drop", "<img src=x onerror=window.harmed=1>")
            .await;
        page.click(&format!("input[value={mode}]")).await;
        page.click("button[type=submit]").await;
        page.shows(".composer .badge.good", "Succeeded").await;
        page.shows(".paper .title", "<img src=x").await;
        page.shows(".extracted", "</script><img src=x").await;
        page.shows(".extracted .steering", "RLO").await;
    }
    // A line of five megabytes comes in parts.
    let shown = "return document.querySelector('.answers').textContent.length";
    assert!(page.run(shown).await.as_u64().unwrap() < 50_000);
    page.click(".extracted input[value=text]").await;
    page.click(".extracted .tools button").await;
    assert!(page.run(shown).await.as_u64().unwrap() > 30_000);
    page.click("details.raw summary").await;
    page.shows("details.raw .long", "<script>").await;

    page.click(".composer a[href*=jobs]").await;
    page.shows(".facts", "<img src=x onerror=window.harmed=1>")
        .await;
    page.shows(".facts .steering", "RLO").await;
    page.shows(".sheet", "</script><img src=x").await;
    let pictures =
        "return [...document.querySelectorAll('main img, main script, main iframe')].length";
    assert_eq!(page.run(pictures).await, 0);
    // The address may hold anything as well.
    page.go(
        "jobs/%3Cimg%20src%3Dx%20onerror%3D%22window.harmed%3D1%22%3E?integration=%3Cscript%3E",
    )
    .await;
    page.shows(".problem", "Not found").await;
    page.forget_log().await;
    page.go("jobs?integration=%3Cscript%3Ewindow.harmed%3D1%3C%2Fscript%3E")
        .await;
    page.shows(".empty", "No job fits").await;
    page.close().await;
}
