//! The page of streams: what a person sees of records, their labels and their dead letters, and that no record harms the page.

use jiff::{SignedDuration, Timestamp};
use linkspan::store::Store;
use serde_json::json;

use super::page::{self, Page};
use crate::scripted::Scene;
use crate::seed::{self, REVIEWS, Seed};

const INTEGRATIONS: &str = r#"
[integration.reviews]
pattern = "stream-in"
source = { kinesis = "reviews" }
steps = ["mood"]
attempts = 1
"#;

const EVIL: &str = "<img src=x onerror=window.harmed=1>\u{202e}<script>window.harmed=1</script>";

/// A gateway that has read a stream for some time: three labels over 50 minutes, and dead letters.
async fn scene(letters: &[Seed]) -> (Scene, String) {
    let scene = Scene::start_keyed("", INTEGRATIONS).await;
    scene.engine.open();
    let key = scene.key("operations", &["invoke", "read", "admin"]).await;
    let store = &*scene.served.gateway.store;
    let now = Timestamp::now();
    for number in 0..25_i64 {
        let at = now - SignedDuration::from_mins(50 - 2 * number);
        let label = ["positive", "negative", "positive", "neutral"][number as usize % 4];
        let seeds = vec![
            Seed::labelled(&format!("shardId-0/{number}"), label).at(at);
            1 + number as usize % 3
        ];
        seed::commit_at(store, REVIEWS, &seeds, at).await;
    }
    if !letters.is_empty() {
        commit(store, REVIEWS, letters).await;
    }
    (scene, key)
}

async fn commit(store: &dyn Store, stream: &str, seeds: &[Seed]) {
    seed::commit_at(store, stream, seeds, Timestamp::now()).await;
}

async fn page_of(scene: &Scene, key: &str) -> Page {
    let page = Page::at(&scene.url()).await;
    page.sign_in(key).await;
    page
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streams_page_shows_what_came_out_as_it_comes() {
    let (scene, key) = scene(&[]).await;
    let page = page_of(&scene, &key).await;
    page.shows(".drawing.stream-in .ships", "in flight").await;
    page.click(".drawing.stream-in .ships a.strong").await;
    page.shows("h1", "reviews").await;
    page.go("streams").await;
    page.shows("tbody", "own Kinesis stream").await;
    page.click("tbody a").await;

    for label in ["positive", "negative", "neutral"] {
        page.shows(".mix .legend", label).await;
    }
    let columns = "return document.querySelectorAll('.mix svg g').length";
    assert!(page.run(columns).await.as_u64().unwrap() >= 8);
    page.click(".mix summary").await;
    let told = "const count = (selector) => [...document.querySelectorAll(selector)].reduce((sum, one) => sum + Number(one.textContent), 0); \
        return [count('.mix tbody td'), count('.mix .legend .figure:nth-child(3)')]";
    assert_eq!(
        page.run(told).await,
        json!([49, 49]),
        "the table says what the chart shows"
    );
    page.shows(".tiles", "Lag").await;
    page.shows("section[aria-labelledby=lanes]", "seeded").await;

    page.shows("section[aria-labelledby=results] tbody", "shardId-0/24")
        .await;
    let rows =
        "return document.querySelectorAll('section[aria-labelledby=results] tbody tr').length";
    assert_eq!(page.run(rows).await, 15, "a page of them");
    let store = &*scene.served.gateway.store;
    commit(
        store,
        REVIEWS,
        &[Seed::labelled("shardId-0/new", "negative")],
    )
    .await;
    page.shows("section[aria-labelledby=results] tbody", "shardId-0/new")
        .await;

    page.fill("#filter-q", "NEGATIVE\u{e007}").await;
    page.until(
        "const rows = [...document.querySelectorAll('section[aria-labelledby=results] tbody tr')]; \
         return rows.length === 13 && rows.every((row) => row.textContent.includes('negative'))",
    )
    .await;
    page.fill("#filter-q", "nobody said this\u{e007}").await;
    page.shows(".empty", "No result fits").await;
    page.go("streams/reviews").await;
    page.click("section[aria-labelledby=results] tbody tr:first-child a")
        .await;
    page.shows(".facts", "shardId-0/new").await;
    page.close().await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_looked_at_and_replayed() {
    let long = "word ".repeat(20_000);
    let letters = [
        Seed::dead("shardId-0/91", b"I love it.", "the engine was away"),
        Seed::dead(
            "shardId-0/92",
            &[0xff, 0xfe, 0, 1],
            "the record is not JSON (line 1, column 1)",
        ),
        Seed::dead("shardId-0/93", long.as_bytes(), "the engine was away"),
        Seed::dead("shardId-0/94", b"fail:unreadable-document", "as it was"),
    ];
    let (scene, key) = scene(&letters).await;
    let page = page_of(&scene, &key).await;
    page.go("streams/reviews").await;
    let place = |number: usize| format!(".letters > li:nth-child({})", number + 1);
    let letter = async |record: &str| {
        page.shows(".letters", record).await;
        let at = format!(
            "return [...document.querySelectorAll('.letters > li')].findIndex((one) => one.textContent.includes('{record}'))"
        );
        usize::try_from(page.run(&at).await.as_u64().unwrap()).unwrap()
    };
    for (record, shown) in [
        ("shardId-0/91", "I love it."),
        ("shardId-0/92", "4 bytes that are no text"),
        ("shardId-0/93", "The first 16 KiB of 97.7 KiB"),
    ] {
        let place = place(letter(record).await);
        page.click(&format!("{place} summary")).await;
        page.shows(&place, shown).await;
    }
    // What is drawn anew leaves open what was opened.
    commit(
        &*scene.served.gateway.store,
        REVIEWS,
        &[Seed::labelled("shardId-0/new", "neutral")],
    )
    .await;
    page.shows("section[aria-labelledby=results] tbody", "shardId-0/new")
        .await;
    page.shows(&place(letter("shardId-0/91").await), "I love it.")
        .await;

    let one = place(letter("shardId-0/91").await);
    page.click(&format!("{one} button")).await;
    page.until("return document.querySelectorAll('.letters > li').length === 3")
        .await;
    page.shows(".toasts", "worked on again").await;
    page.click("section[aria-labelledby=letters] > header button")
        .await;
    page.shows("dialog", "3 dead letters will be worked on again")
        .await;
    page.click("dialog .primary").await;
    page.until("return !document.querySelector('dialog')").await;
    // One of them fails again.
    page.until("return document.querySelectorAll('.letters > li').length === 1")
        .await;
    page.shows(".letters", "shardId-0/94").await;
    page.close().await;

    // Who may only read sees them, and replays nothing.
    let reader = scene.key("reader", &["read:reviews"]).await;
    let page = page_of(&scene, &reader).await;
    page.go("streams/reviews").await;
    page.shows(".letters", "shardId-0/94").await;
    let buttons =
        "return document.querySelectorAll('section[aria-labelledby=letters] button').length";
    assert_eq!(page.run(buttons).await, 0);
    page.close().await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_records_do_no_harm_on_the_page_of_streams() {
    let (scene, key) = scene(&[Seed::dead(EVIL, EVIL.as_bytes(), EVIL)]).await;
    let store = &*scene.served.gateway.store;
    commit(store, REVIEWS, &[Seed::labelled(EVIL, EVIL)]).await;
    let page = page_of(&scene, &key).await;
    page.go("streams/reviews").await;
    for place in [
        ".mix .legend",
        ".mix svg title",
        ".letters .reason",
        ".letters .to",
        "section[aria-labelledby=results] tbody",
    ] {
        page.shows(place, "<img src=x onerror=window.harmed=1>")
            .await;
    }
    for place in [
        ".mix .legend .steering",
        ".letters .reason .steering",
        "section[aria-labelledby=results] .steering",
    ] {
        page.shows(place, "RLO").await;
    }
    page.click(".letters summary").await;
    page.shows(".letters .bytes", "<script>window.harmed=1</script>")
        .await;
    page.click(".mix summary").await;
    page.shows(".mix thead", "<img src=x").await;
    let made = "return document.querySelectorAll('main img, main script, main iframe').length";
    assert_eq!(page.run(made).await, 0);
    // The address may hold anything as well.
    page.go("streams/%3Cimg%20src%3Dx%20onerror%3D%22window.harmed%3D1%22%3E?q=%3Cscript%3E")
        .await;
    page.shows(".problem", "reads a stream").await;
    page.forget_log().await;
    page.close().await;
    scene.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pages_of_streams_fit_a_phone_and_can_be_read_in_both_themes() {
    let (scene, key) = scene(&[Seed::dead(
        "shardId-000000000000/49671208",
        b"{\"review\": 1}",
        "text: the filter gives no text for this record",
    )])
    .await;
    let page = page_of(&scene, &key).await;
    for theme in ["light", "dark"] {
        for width in [390, 1280] {
            page.screen(width, 844, theme).await;
            for (hash, there) in [
                ("", ".drawing.stream-in .ships li"),
                ("streams", "tbody tr"),
                ("streams/reviews", ".mix svg g"),
            ] {
                page.go(hash).await;
                page.until(&format!("return document.querySelector('{there}') !== null && !document.querySelector('.loading')")).await;
                let at = format!("#/{hash} at {width} pixels, {theme}");
                let beyond = page
                    .run("return document.documentElement.scrollWidth - innerWidth")
                    .await;
                assert!(beyond.as_i64().unwrap() <= 0, "{at}: {beyond} beyond");
                assert_eq!(page.run(page::FAINT).await, json!([]), "{at}: hard to read");
                assert_eq!(page.run(page::NAMELESS).await, json!([]), "{at}: no name");
            }
        }
    }
    // The keyboard reaches the table behind the chart.
    page.run("document.querySelector('h1').focus()").await;
    page.tab_to(".mix summary").await;
    page.press(page::ENTER).await;
    page.until("return document.querySelector('.mix details').open")
        .await;
    page.close().await;
    scene.stop().await;
}
