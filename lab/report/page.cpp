#include "report/page.h"

namespace keelback::report {
namespace {

constexpr std::string_view kStyle = R"css(
:root{--ink:#1b1f24;--soft:#5a6472;--line:#d7dce2;--paper:#fff;--panel:#f6f8fa;--good:#1a7f4b;--warn:#9a6700;--bad:#b42318;
--c0:#2f6fde;--c1:#d9662b;--c2:#1a9a6c;--c3:#9b4dca;--c4:#b8860b;--c5:#00838f;--c6:#c2185b;--c7:#6d7784;--shade:#b4231822}
@media (prefers-color-scheme:dark){:root{--ink:#e6e9ed;--soft:#9aa5b1;--line:#333b45;--paper:#14171b;--panel:#1c2127;--good:#4cc38a;
--warn:#e2b340;--bad:#ff7b6e;--c0:#6ea0ff;--c1:#ff9b66;--c2:#5dd3a4;--c3:#c792ea;--c4:#e0b94c;--c5:#4dd0e1;--c6:#f48fb1;--c7:#9aa5b1;--shade:#ff7b6e2e}}
*{box-sizing:border-box}body{margin:0;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
main{max-width:1080px;margin:0 auto;padding:24px 20px 64px}h1{font-size:22px;margin:0}h1+p{color:var(--soft);margin:2px 0 16px}
h2{font-size:17px;margin:34px 0 6px;padding-top:10px;border-top:1px solid var(--line)}p{margin:6px 0;max-width:80ch}
nav{font-size:13px;margin:12px 0;display:flex;flex-wrap:wrap;gap:2px 14px}nav a{color:var(--c0);text-decoration:none;white-space:nowrap}
.banner{border-left:8px solid var(--soft);background:var(--panel);padding:14px 18px;border-radius:4px}
.banner b{font-size:24px;letter-spacing:.02em}.banner dl{display:flex;flex-wrap:wrap;gap:4px 24px;margin:10px 0 0;font-size:13px}
.banner dt{color:var(--soft);display:inline}.banner dd{display:inline;margin:0 0 0 4px}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(150px,1fr));gap:10px;margin:16px 0 4px}.tiles div{background:var(--panel);border-radius:4px;padding:10px 12px}
.tiles b{display:block;font-size:20px;font-variant-numeric:tabular-nums}.tiles span{font-size:12px;color:var(--soft);display:block;line-height:1.35}
.t-good{color:var(--good)}.t-warn{color:var(--warn)}.t-bad{color:var(--bad)}.t-muted{color:var(--soft)}
.b-good{border-color:var(--good)}.b-warn{border-color:var(--warn)}.b-bad{border-color:var(--bad)}
.note{border-left:4px solid var(--line);padding:4px 12px;margin:8px 0;background:var(--panel)}
table{border-collapse:collapse;font-size:13px;margin:8px 0;width:100%}th,td{text-align:left;padding:4px 10px 4px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{color:var(--soft);font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}td.n{white-space:nowrap}
pre{background:var(--panel);padding:10px 12px;overflow:auto;font:12.5px/1.45 ui-monospace,"DejaVu Sans Mono",monospace;border-radius:4px;white-space:pre-wrap;word-break:break-word}
figure{margin:12px 0;break-inside:avoid}figcaption{font-size:13px;color:var(--soft)}svg{width:100%;height:auto;display:block}
svg text{font:11px system-ui,"DejaVu Sans",sans-serif;fill:var(--soft)}svg text.strong{fill:var(--ink);paint-order:stroke;stroke:var(--paper);stroke-width:3px;stroke-linejoin:round}svg text.inside{fill:var(--paper)}code{font:12.5px ui-monospace,"DejaVu Sans Mono",monospace;background:var(--panel);padding:1px 4px;border-radius:3px}
.note code{background:none;padding:0;color:var(--ink)}svg .axis{stroke:var(--line);stroke-width:1}
svg .mark{stroke:var(--ink);stroke-width:1;stroke-dasharray:3 3}svg .shade{fill:var(--shade)}svg .rule{stroke:var(--soft);stroke-width:1}
@media print{:root{--paper:#fff;--ink:#000;--panel:#f4f4f4}nav{display:none}body{font-size:11pt}main{max-width:none;padding:0}svg text{font-size:13px}h2,h2+p{break-after:avoid}p{orphans:3;widows:3}tr{break-inside:avoid}table,figure{break-inside:auto}
*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}
)css";

std::string_view tone_word(Tone tone) {
  switch (tone) {
    case Tone::kPlain:
      return "plain";
    case Tone::kGood:
      return "good";
    case Tone::kWarn:
      return "warn";
    case Tone::kBad:
      return "bad";
    case Tone::kMuted:
      return "muted";
  }
  return "plain";
}

// Escaped, and what stands between backticks as code.
std::string prose(std::string_view text) {
  std::string out;
  while (true) {
    const std::size_t open = text.find('`');
    const std::size_t close = open == text.npos ? text.npos : text.find('`', open + 1);
    out += escape(text.substr(0, close == text.npos ? text.npos : open));
    if (close == text.npos) return out;
    out += "<code>" + escape(text.substr(open + 1, close - open - 1)) + "</code>";
    text.remove_prefix(close + 1);
  }
}

}  // namespace

std::string escape(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        // Control characters other than white space are not allowed in HTML at all.
        out += (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\t') ? ' ' : c;
    }
  }
  return out;
}

Page::Page(std::string title, std::string subtitle)
    : title_(std::move(title)), subtitle_(std::move(subtitle)) {}

void Page::banner(Tone tone, std::string_view verdict, std::string_view sentence,
                  const std::vector<std::pair<std::string, std::string>>& facts) {
  top_ += "<div class=\"banner b-" + std::string(tone_word(tone)) + "\"><b class=\"t-" +
          std::string(tone_word(tone)) + "\">" + escape(verdict) + "</b><p>" + escape(sentence) +
          "</p><dl>";
  for (const auto& [name, value] : facts) {
    top_ += "<div><dt>" + escape(name) + "</dt><dd>" + escape(value) + "</dd></div>";
  }
  top_ += "</dl></div>\n";
}

void Page::tiles(const std::vector<Tile>& tiles) {
  top_ += "<div class=\"tiles\">";
  for (const Tile& tile : tiles)
    top_ += "<div><b class=\"t-" + std::string(tone_word(tile.tone)) + "\">" + escape(tile.value) +
            "</b><span>" + escape(tile.label) + "</span></div>";
  top_ += "</div>\n";
}

void Page::section(std::string_view heading, std::string_view lead) {
  if (open_) body_ += "</section>\n";
  open_ = true;
  const std::string id = "s" + std::to_string(contents_.size() + 1);
  contents_.emplace_back(id, heading);
  body_ += "<section id=\"" + id + "\"><h2>" + escape(heading) + "</h2>\n";
  if (!lead.empty()) paragraph(lead);
}

void Page::paragraph(std::string_view text) { body_ += "<p>" + prose(text) + "</p>\n"; }

void Page::note(Tone tone, std::string_view text) {
  const std::string word(tone_word(tone));
  body_ += "<p class=\"note b-" + word + " t-" + word + "\">" + prose(text) + "</p>\n";
}

void Page::table(const Table& table) {
  if (table.rows.empty()) {
    body_ += "<p class=\"t-muted\">" + escape(table.empty) + "</p>\n";
    return;
  }
  body_ += "<table><thead><tr>";
  for (std::size_t i = 0; i < table.head.size(); ++i) {
    const bool number = i < table.rows[0].size() && table.rows[0][i].number;
    body_ += std::string(number ? "<th class=\"n\">" : "<th>") + escape(table.head[i]) + "</th>";
  }
  body_ += "</tr></thead><tbody>\n";
  for (const auto& row : table.rows) {
    body_ += "<tr>";
    for (const Cell& cell : row) {
      body_ += "<td class=\"" + std::string(cell.number ? "n " : "") + "t-" +
               std::string(tone_word(cell.tone)) + "\">" + escape(cell.text) + "</td>";
    }
    body_ += "</tr>\n";
  }
  body_ += "</tbody></table>\n";
}

void Page::code(std::string_view text) { body_ += "<pre>" + escape(text) + "</pre>\n"; }

void Page::figure(std::string_view svg, std::string_view caption) {
  body_ +=
      "<figure>" + std::string(svg) + "<figcaption>" + escape(caption) + "</figcaption></figure>\n";
}

std::string Page::html() const {
  std::string out =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>" +
      escape(title_) + "</title><style>" + std::string(kStyle) +
      "</style></head><body><main>\n<h1>" + escape(title_) + "</h1><p>" + escape(subtitle_) +
      "</p>\n" + top_ + "<nav>";
  for (const auto& [id, heading] : contents_) {
    out += "<a href=\"#" + id + "\">" + escape(heading) + "</a>";
  }
  out += "</nav>\n" + body_ + (open_ ? "</section>\n" : "") + "</main></body></html>\n";
  return out;
}

}  // namespace keelback::report
