//! A page of the console in a browser: what the tests do with it, and what must be true of it whatever they did.

use std::path::Path;
use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::wd::WebDriverCompatibleCommand;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use linkspan_testkit::{Browser, Gateway};
use serde_json::{Value, json};

/// How long something may take to be seen.
const PATIENCE: Duration = Duration::from_secs(120);

pub(super) const ENTER: &str = "\u{e007}";
pub(super) const ESCAPE: &str = "\u{e00c}";
const TAB: &str = "\u{e004}";

/// Runs in every document before its own scripts: what the policy refuses is remembered.
const WATCH: &str = "window.refused = []; addEventListener('securitypolicyviolation', (event) => \
    window.refused.push(`${event.violatedDirective} ${event.blockedURI}`));";

/// Texts whose contrast with what lies behind them is below WCAG's 4.5 to 1.
pub(super) const FAINT: &str = r"
    const parts = (color) => {
      const numbers = color.match(/-?[\d.]+(?:e-?\d+)?/g)?.map(Number) ?? [0, 0, 0, 0];
      const scale = color.startsWith('color(srgb') ? 255 : 1;
      return [numbers[0] * scale, numbers[1] * scale, numbers[2] * scale, numbers[3] ?? 1];
    };
    const over = (top, under) => top.slice(0, 3).map((value, at) => value * top[3] + under[at] * (1 - top[3]));
    const light = (color) => {
      const [r, g, b] = color.map((value) => { const c = value / 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; });
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
      const layers = [];
      for (let at = element; at; at = at.parentElement) layers.push(parts(getComputedStyle(at).backgroundColor));
      return layers.reverse().reduce((under, layer) => over(layer, under), [255, 255, 255]);
    };
    const faint = [];
    for (const element of document.querySelectorAll('body *')) {
      if (!element.checkVisibility() || element.closest('.unseen, svg, :disabled, .skip, option')) continue;
      if (![...element.childNodes].some((node) => node.nodeType === 3 && node.nodeValue.trim())) continue;
      const under = ground(element);
      const [a, b] = [light(over(parts(getComputedStyle(element).color), under)), light(under)];
      const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      if (contrast < 4.5) faint.push(`${element.tagName}.${element.className} ${contrast.toFixed(2)} ${element.textContent.slice(0, 30)}`);
    }
    return faint;
";

/// What can be used and says nothing to who does not see it.
pub(super) const NAMELESS: &str = r"
    const labelled = (element) => element.labels?.length || element.getAttribute('aria-label') || element.getAttribute('aria-labelledby');
    const used = [...document.querySelectorAll('a, button, input, select, textarea, [tabindex=\'0\']')];
    return used.filter((element) => element.checkVisibility() && !labelled(element) && !element.textContent.trim()).map((element) => element.outerHTML.slice(0, 80));
";

/// A tab with the console. [`Page::close`] says that nothing bad happened in it.
pub(super) struct Page {
    client: Client,
    url: String,
    _browser: Browser,
}

/// A command of the driver that the standard does not have.
#[derive(Debug)]
struct Vendor {
    path: &'static str,
    body: Value,
}

impl WebDriverCompatibleCommand for Vendor {
    fn endpoint(
        &self,
        base: &url::Url,
        session: Option<&str>,
    ) -> Result<url::Url, url::ParseError> {
        base.join(&format!(
            "session/{}/{}",
            session.unwrap_or_default(),
            self.path
        ))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(self.body.to_string()))
    }
}

impl Page {
    pub(super) async fn open(gateway: &Gateway) -> Self {
        Self::at(&gateway.url).await
    }

    /// The console of the gateway there.
    pub(super) async fn at(url: &str) -> Self {
        let browser = Browser::start();
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(browser.capabilities())
            .connect(&browser.url)
            .await
            .expect("a browser");
        let page = Self {
            client,
            url: url.to_owned(),
            _browser: browser,
        };
        page.devtools(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({ "source": WATCH }),
        )
        .await;
        page.client.goto(&page.url).await.unwrap();
        page
    }

    pub(super) async fn sign_in(&self, key: &str) {
        self.fill("input[name=key]", key).await;
        self.click("button[type=submit]").await;
        self.shows("h1", "Overview").await;
    }

    /// Goes to a page of the console by its address.
    pub(super) async fn go(&self, hash: &str) {
        let hash = json!(format!("#/{hash}"));
        self.run(&format!("location.hash = {hash}")).await;
        let there = format!(
            "return location.hash === {hash} && document.querySelector('main')?.dataset.at === {hash}"
        );
        self.until(&there).await;
    }

    pub(super) async fn reload(&self) {
        self.client.refresh().await.unwrap();
    }

    /// Waits for an element and clicks it.
    pub(super) async fn click(&self, css: &str) {
        let end = tokio::time::Instant::now() + PATIENCE;
        let to_the_middle = format!(
            "document.querySelector({})?.scrollIntoView({{ block: 'center', behavior: 'instant' }})",
            json!(css)
        );
        loop {
            let found = self.find(css).await;
            // Not under the bar above, where nobody could click it.
            self.run(&to_the_middle).await;
            // A live page may draw between finding and clicking.
            match found.click().await {
                Ok(()) => return,
                Err(error) => assert!(tokio::time::Instant::now() < end, "{css}: {error}"),
            }
        }
    }

    /// Types a text in place of what a field holds.
    pub(super) async fn fill(&self, css: &str, text: &str) {
        let field = self.find(css).await;
        field.clear().await.unwrap();
        field.send_keys(text).await.unwrap();
    }

    /// Chooses a file.
    pub(super) async fn choose(&self, css: &str, file: &Path) {
        let file = file.canonicalize().unwrap();
        let field = self.find(css).await;
        field.send_keys(file.to_str().unwrap()).await.unwrap();
        self.until("return document.querySelector('.drop label .name') !== null && !document.querySelector('.outcome')")
            .await;
    }

    /// Types into whatever has the focus.
    pub(super) async fn press(&self, keys: &str) {
        let focused = self.client.active_element().await.unwrap();
        focused.send_keys(keys).await.unwrap();
    }

    /// Presses Tab until an element has the focus, and shows that it has.
    pub(super) async fn tab_to(&self, css: &str) {
        let there = format!(
            "return document.activeElement.matches({})",
            json!(format!("{css}:focus-visible"))
        );
        for _ in 0..120 {
            self.press(TAB).await;
            if self.run(&there).await == true {
                let ring = "const at = document.activeElement; const shown = at.type === 'file' ? at.nextElementSibling : at; \
                    return getComputedStyle(shown).outlineStyle";
                assert_ne!(
                    self.run(ring).await,
                    "none",
                    "{css} does not show its focus"
                );
                return;
            }
        }
        panic!("Tab does not lead to {css}");
    }

    /// Waits until an element has a text.
    pub(super) async fn shows(&self, css: &str, text: &str) {
        let shown = format!(
            "return [...document.querySelectorAll({})].some((element) => element.textContent.includes({}))",
            json!(css),
            json!(text)
        );
        self.until(&shown).await;
    }

    /// Waits until a script gives true.
    pub(super) async fn until(&self, script: &str) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while self.run(script).await != true {
            if tokio::time::Instant::now() > end {
                let text = self
                    .run("return document.body.innerText.slice(0, 3000)")
                    .await;
                panic!(
                    "never true: {script}\nat {}\n{}\nlog: {:?}",
                    self.client.current_url().await.unwrap(),
                    text.as_str().unwrap_or_default(),
                    self.log().await
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until something is true outside the browser.
    pub(super) async fn until_here(&self, done: impl Fn() -> bool, what: &str) {
        let end = tokio::time::Instant::now() + PATIENCE;
        while !done() {
            assert!(tokio::time::Instant::now() < end, "never true: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Runs a script in the page.
    pub(super) async fn run(&self, script: &str) -> Value {
        let ran = self.client.execute(script, Vec::new()).await;
        ran.unwrap_or_else(|error| panic!("{error} in {script}"))
    }

    /// A screen of this size, for a system with this theme.
    pub(super) async fn screen(&self, width: u32, height: u32, theme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.devtools("Emulation.setDeviceMetricsOverride", size)
            .await;
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": theme }] });
        self.devtools("Emulation.setEmulatedMedia", media).await;
    }

    /// Leaves out what the console has said so far: an error that was asked for.
    pub(super) async fn forget_log(&self) {
        self.log().await;
    }

    /// Ends the browser; fails where a script of a document ran, the policy was violated, an error was logged, or another host was
    /// asked.
    pub(super) async fn close(self) {
        assert_eq!(self.run("return window.harmed ?? null").await, Value::Null);
        assert_eq!(self.run("return window.refused").await, json!([]));
        let asked = self
            .run(
                "return performance.getEntriesByType('resource').map((entry) => entry.name) \
                 .filter((name) => !name.startsWith(location.origin) && !name.startsWith('blob:'))",
            )
            .await;
        assert_eq!(asked, json!([]), "another host was asked");
        let log = self.log().await;
        assert_eq!(log, Vec::<String>::new(), "the console has errors");
        self.client.close().await.unwrap();
    }

    async fn find(&self, css: &str) -> Element {
        self.client
            .wait()
            .at_most(PATIENCE)
            .every(Duration::from_millis(20))
            .for_element(Locator::Css(css))
            .await
            .unwrap_or_else(|error| panic!("{css}: {error}"))
    }

    /// What the browser logged as an error or a warning since it was asked last.
    async fn log(&self) -> Vec<String> {
        let body = json!({ "type": "browser" });
        let lines = self
            .client
            .issue_cmd(Vendor {
                path: "se/log",
                body,
            })
            .await
            .unwrap();
        lines
            .as_array()
            .unwrap()
            .iter()
            .filter(|line| ["SEVERE", "WARNING"].contains(&line["level"].as_str().unwrap()))
            .map(|line| line["message"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    async fn devtools(&self, command: &str, params: Value) {
        self.client
            .issue_cmd(Vendor {
                path: "goog/cdp/execute",
                body: json!({ "cmd": command, "params": params }),
            })
            .await
            .unwrap();
    }
}
