// Documents that are dropped or pasted anywhere on the page.

/// `take(file)` for each; `over(true | false)` while one hangs above the page. Gives the way to end that.
export function droppable(take, over) {
  const events = {
    paste(event) {
      const file = event.clipboardData?.files?.[0];
      if (!file || document.querySelector("dialog[open]")) return;
      event.preventDefault();
      take(file);
    },
    dragover(event) {
      if (!event.dataTransfer?.types?.includes("Files")) return;
      // Without this the browser would leave the page and open the file.
      event.preventDefault();
      over(true);
    },
    dragleave(event) {
      if (!event.relatedTarget) over(false);
    },
    drop(event) {
      const file = event.dataTransfer?.files?.[0];
      if (!file) return;
      event.preventDefault();
      over(false);
      take(file);
    },
  };
  for (const [kind, work] of Object.entries(events)) addEventListener(kind, work);
  return () => {
    for (const [kind, work] of Object.entries(events)) removeEventListener(kind, work);
  };
}
