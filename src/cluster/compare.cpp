#include "cluster/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <variant>

#include "cluster/claims.h"
#include "cluster/commits.h"

namespace keelback::cluster {

void Compare::begin() {
  ++round_;
  again_ = false;
  expected_.clear();
  for (const auto& [id, session] : sessions_) {
    if (session.step == Session::Step::kOwned) expected_[id] = {session.token, session.number};
  }
  if (!expected_.empty()) ask({});
}

void Compare::beat() {
  if (again_) begin();
}

void Compare::ask(std::string after) {
  frame_.ask(Owned{members_.self(), after, kPage}, ForCompare{after, round_});
}

void Compare::on(const ForCompare& purpose, const Reply& reply) {
  if (purpose.round != round_) return;
  const auto* page = std::get_if<OwnedRows>(&reply);
  if (!page) {
    again_ = true;
    return;
  }
  const bool last = page->rows.size() < kPage;
  while (!expected_.empty()) {
    const auto first = expected_.begin();
    if (!last && first->first > page->rows.back().session) return ask(page->rows.back().session);
    const auto row = std::ranges::lower_bound(page->rows, first->first, {}, &SessionRow::session);
    const bool is_there = row != page->rows.end() && row->session == first->first;
    const auto node = expected_.extract(first);
    compare(node.key(), node.mapped(), is_there ? &*row : nullptr);
  }
}

void Compare::compare(const std::string& id, const Expected& expected, const SessionRow* row) {
  const auto found = sessions_.find(id);
  if (found == sessions_.end()) return;
  Session& session = found->second;
  if (session.step != Session::Step::kOwned || session.token != expected.token) return;
  if (!session.commits.empty()) return;  // what is committed now finds out by itself
  if (row && row->token == expected.token) {
    if (row->number < expected.number) commits_.went_back(session, row->number);
    return;
  }
  ++frame_.counters.went_back;
  frame_.notice(Notice::Level::kError,
                fmt::format("The database went back: session \"{}\" is this node's, and the "
                            "database does not know it.",
                            id));
  commits_.orphan(session);
  claims_.forget(session, "The database has lost the session.");
}

}  // namespace keelback::cluster
