// Light or dark, set before the first paint. Not a module, so that it runs before the page is drawn.
(() => {
  const kept = () => {
    try {
      return localStorage.getItem("linkspan-theme");
    } catch {
      return null;
    }
  };
  const theme = kept();
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
