// Search by section: `sections.js`, which conf.py writes, holds [page, section, address, text] of each.

const MOST = 60; // results

// A section must have all words, each at the beginning of a word of its own; headings count most.
function rank(sections, words) {
  const escaped = words.map((word) => word.replace(/[\\^$.*+?()[\]{}|/]/g, "\\$&"));
  const patterns = escaped.map((word) => new RegExp(`(?<![\\p{L}\\p{N}])${word}`, "giu"));
  const found = sections.map(([page, title, address, text]) => {
    const scores = patterns.map((pattern) => {
      const inTitle = (title.match(pattern)?.length ?? 0) + (page.match(pattern) ? 0.3 : 0);
      return 8 * inTitle + Math.min(text.match(pattern)?.length ?? 0, 6);
    });
    const score = scores.every(Boolean) ? scores.reduce((a, b) => a + b, 0) : 0;
    return { page, title, address, text, score };
  });
  const results = found.filter(({ score }) => score > 0).sort((a, b) => b.score - a.score);
  return { results, patterns };
}

// The part of a text around the first word, with all words marked.
function excerpt(text, patterns) {
  const first = Math.min(...patterns.map((pattern) => text.search(pattern)).filter((at) => at >= 0), text.length);
  const start = Math.max(0, text.lastIndexOf(" ", first - 70) + 1);
  const space = text.lastIndexOf(" ", start + 240);
  const end = start + 240 >= text.length ? text.length : space > first ? space : start + 240; // no word is cut in two
  const part = `${start ? "… " : ""}${text.slice(start, end).trim()}${end < text.length ? " …" : ""}`;
  const line = document.createElement("p");
  const any = new RegExp(patterns.map(({ source }) => source).join("|"), "giu");
  let at = 0;
  for (const match of part.matchAll(any)) {
    const mark = document.createElement("mark");
    mark.textContent = match[0];
    line.append(part.slice(at, match.index), mark);
    at = match.index + match[0].length;
  }
  line.append(part.slice(at));
  return line;
}

const query = new URLSearchParams(location.search).get("q")?.trim() ?? "";
const words = query.split(/\s+/).map((word) => word.replace(/^[^\p{L}\p{N}]+|[^\p{L}\p{N}]+$/gu, "")).filter(Boolean);
document.querySelectorAll("input[name='q']").forEach((input) => (input.value = query));
if (query) {
  const { results, patterns } = rank(SECTIONS, words);
  const many = results.length > MOST ? `; the best ${MOST}:` : results.length ? ":" : ". Try another word.";
  document.getElementById("search-summary").textContent =
    `${results.length || "No"} section${results.length === 1 ? " has" : "s have"} “${query}”${many}`;
  for (const { page, title, address, text } of results.slice(0, MOST)) {
    const item = document.createElement("li");
    const link = document.createElement("a");
    const [file, anchor] = address.split("#");
    link.href = `${file}?highlight=${encodeURIComponent(words.join(" "))}${anchor ? `#${anchor}` : ""}`;
    link.textContent = page === title ? page : `${page} › ${title}`;
    item.append(link, excerpt(text, patterns));
    document.getElementById("search-results").append(item);
  }
}
