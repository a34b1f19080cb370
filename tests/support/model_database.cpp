#include "support/model_database.h"

#include <algorithm>
#include <utility>
#include <variant>

namespace keelback::cluster {
namespace {

// Written by the commit of a session's call, or by KeyAnswer.
KeyRow key_row(const Commit& request) {
  KeyRow row;
  row.key = request.answer.key;
  row.fingerprint = request.answer.fingerprint;
  row.session = request.session;
  row.owner = request.owner;
  row.token = request.token;
  row.answer = request.answer;
  return row;
}

}  // namespace

Reply ModelDatabase::perform(Time now, const Request& request) {
  return std::visit([&](const auto& each) { return on(now, each); }, request);
}

void ModelDatabase::go_back(const ModelDatabase& copy) {
  const std::uint64_t starts = starts_ + 1;
  const Flaws kept = flaws;
  *this = copy;
  starts_ = starts;
  flaws = kept;
}

std::string ModelDatabase::started() const { return "start " + std::to_string(starts_); }

bool ModelDatabase::lives(const Owner& owner) const {
  const auto found = nodes_.find(owner.node);
  return found != nodes_.end() && found->second.incarnation == owner.incarnation &&
         !found->second.retired;
}

std::vector<NodeRow> ModelDatabase::all_nodes() const {
  std::vector<NodeRow> all;
  for (const auto& [name, row] : nodes_) all.push_back(row);
  return all;
}

std::optional<NodeRow> ModelDatabase::living(const std::optional<Owner>& owner) const {
  if (!owner || !lives(*owner)) return std::nullopt;
  return nodes_.at(owner->node);
}

void ModelDatabase::show(Time now, const std::string& session, bool with_state,
                         Standing& out) const {
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return;
  out.row = found->second;
  out.row->age = now - times_.at(session).made;
  out.row->idle = now - times_.at(session).used;
  if (!with_state) {
    out.row->state.reset();
    out.row->answer = {};
  }
  out.owner = living(out.row->owner);
}

SessionRow* ModelDatabase::match(const std::string& session, std::uint64_t birth, Token token) {
  const auto found = sessions_.find(session);
  if (found == sessions_.end()) return nullptr;
  SessionRow& row = found->second;
  return row.birth == birth && row.token == token ? &row : nullptr;
}

// ---- nodes

Reply ModelDatabase::on(Time, const Join& request) {
  Joined reply;
  const auto found = nodes_.find(request.node.name);
  if (found == nodes_.end() || found->second.incarnation != request.node.incarnation) {
    NodeRow row = request.node;
    row.beat = 0;
    row.retired = false;
    nodes_[row.name] = row;
    retired_at_.erase(row.name);
  }
  reply.done = !nodes_.at(request.node.name).retired;
  if (settings_.version == 0) settings_ = {1, request.settings};
  reply.tables = kSchema;
  reply.server = server;
  reply.server.started = started();
  reply.settings = settings_;
  reply.nodes = all_nodes();
  return reply;
}

Reply ModelDatabase::on(Time, const Beat& request) {
  Beaten reply;
  const auto found = nodes_.find(request.node.node);
  if (found != nodes_.end() && found->second.incarnation == request.node.incarnation &&
      (!found->second.retired || flaws.retires_on_paper)) {
    reply.done = true;
    reply.was = found->second.beat;
    found->second.beat = std::max(found->second.beat, request.beat);
    found->second.draining = request.draining;
  }
  reply.started = started();
  reply.settings = settings_;
  reply.nodes = all_nodes();
  return reply;
}

Reply ModelDatabase::on(Time now, const Retire& request) {
  Written reply;
  const auto found = nodes_.find(request.node.node);
  if (found == nodes_.end()) return reply;
  NodeRow& row = found->second;
  if (row.incarnation != request.node.incarnation || row.beat != request.beat) return reply;
  if (!row.retired) retired_at_[row.name] = now;
  row.retired = true;
  reply.done = true;
  return reply;
}

Reply ModelDatabase::on(Time, const Leave& request) {
  Written reply;
  const auto found = nodes_.find(request.node.node);
  if (found == nodes_.end() || found->second.incarnation != request.node.incarnation) return reply;
  nodes_.erase(found);
  retired_at_.erase(request.node.node);
  reply.done = true;
  return reply;
}

// ---- sessions

Reply ModelDatabase::on(Time now, const Find& request) {
  Found reply;
  const auto found = sessions_.find(request.session);
  const bool with_state = found != sessions_.end() && request.with_state != 0 &&
                          found->second.token == request.with_state;
  show(now, request.session, with_state, reply);
  return reply;
}

Reply ModelDatabase::on(Time now, const Claim& request) {
  Claimed reply;
  if (!request.seen) {
    if (!sessions_.contains(request.session)) {
      SessionRow row;
      row.session = request.session;
      row.birth = request.birth;
      row.epoch = 1;
      row.owner = request.owner;
      row.token = request.token;
      row.mode = request.mode;
      row.exposed = !request.commits_each_call;
      row.schema = kSchema;
      sessions_[request.session] = row;
      times_[request.session] = {now, now};
      reply.done = true;
    }
  } else if (SessionRow* row = match(request.session, request.seen->birth, request.seen->token);
             row && (!row->owner || !lives(*row->owner) || *row->owner == request.owner)) {
    ++row->epoch;
    row->owner = request.owner;
    row->token = request.token;
    if (row->exposed && row->fate == Fate::kAlive && !flaws.forgets_exposure) {
      row->fate = Fate::kLost;
    }
    if (!request.commits_each_call) row->exposed = true;
    row->schema = kSchema;
    reply.done = true;
  }
  show(now, request.session, reply.done, reply);
  return reply;
}

Reply ModelDatabase::on(Time now, const Commit& request) {
  Written reply;
  SessionRow* row = match(request.session, request.birth, request.token);
  bool holds = row && row->epoch <= request.epoch && row->number == request.after;
  if (flaws.commits_anything) {
    const auto found = sessions_.find(request.session);
    row = found == sessions_.end() ? nullptr : &found->second;
    holds = row != nullptr;
  }
  if (holds) {
    row->epoch = request.epoch;
    row->number = request.number;
    row->state = request.state;
    row->exposed = request.exposed;
    row->fate = Fate::kAlive;
    row->digest = request.digest;
    row->answer = request.answer;
    row->schema = kSchema;
    times_.at(request.session).used = now - request.idle;
    if (!request.answer.key.empty()) {
      const auto key = keys_.find(request.answer.key);
      if (key == keys_.end()) key_times_[request.answer.key] = now;
      if (key == keys_.end() || key->second.token == request.token) {
        keys_[request.answer.key] = key_row(request);
      }
    }
    reply.done = true;
  }
  show(now, request.session, false, reply);
  return reply;
}

Reply ModelDatabase::on(Time now, const Release& request) {
  Written reply;
  if (SessionRow* row = match(request.session, request.birth, request.token)) {
    row->owner.reset();
    if (row->fate == Fate::kAlive) row->fate = request.fate;
    row->schema = kSchema;
    reply.done = true;
  }
  show(now, request.session, false, reply);
  return reply;
}

Reply ModelDatabase::on(Time now, const Drop& request) {
  Written reply;
  if (match(request.session, request.birth, request.token)) {
    sessions_.erase(request.session);
    times_.erase(request.session);
    reply.done = true;
  }
  show(now, request.session, false, reply);
  return reply;
}

Reply ModelDatabase::on(Time now, const Owned& request) {
  OwnedRows reply;
  for (auto at = sessions_.upper_bound(request.after); at != sessions_.end(); ++at) {
    if (reply.rows.size() >= request.most) break;
    if (at->second.owner != request.owner) continue;
    Standing standing;
    show(now, at->first, false, standing);
    reply.rows.push_back(*std::move(standing.row));
  }
  return reply;
}

Reply ModelDatabase::on(Time now, const Sweep& request) {
  Swept reply;
  std::erase_if(sessions_, [&](const auto& each) {
    const auto& [name, row] = each;
    const bool over =
        now - times_.at(name).used > request.idle || now - times_.at(name).made > request.age;
    if (living(row.owner) || !over || reply.sessions >= request.most) return false;
    times_.erase(name);
    ++reply.sessions;
    return true;
  });
  std::erase_if(keys_, [&](const auto& each) {
    if (reply.keys >= request.most || !is_over(now, each.second, request.keys)) return false;
    key_times_.erase(each.first);
    ++reply.keys;
    return true;
  });
  std::erase_if(nodes_, [&](const auto& each) {
    const auto retired = retired_at_.find(each.first);
    if (retired == retired_at_.end() || now - retired->second <= request.nodes) return false;
    if (reply.nodes >= request.most) return false;
    retired_at_.erase(retired);
    ++reply.nodes;
    return true;
  });
  return reply;
}

// ---- idempotency keys

bool ModelDatabase::is_over(Time now, const KeyRow& row, Duration ttl) const {
  return now - key_times_.at(row.key) > ttl && (row.answer || !lives(row.owner));
}

KeyOpened ModelDatabase::opened(bool done, const KeyRow& row) const {
  KeyOpened reply;
  reply.done = done;
  reply.row = row;
  reply.owner = living(row.owner);
  return reply;
}

Reply ModelDatabase::on(Time now, const KeyOpen& request) {
  const auto found = keys_.find(request.key);
  const bool fresh = found == keys_.end() || is_over(now, found->second, request.ttl);
  const bool takes_over = !fresh && request.seen == found->second.token && !found->second.answer &&
                          !lives(found->second.owner);
  if (!fresh && !takes_over) return opened(false, found->second);
  KeyRow row;
  row.key = request.key;
  row.fingerprint = request.fingerprint;
  row.owner = request.owner;
  row.token = request.token;
  keys_[request.key] = row;
  key_times_[request.key] = now;
  return opened(true, row);
}

Reply ModelDatabase::on(Time now, const KeyFind& request) {
  const auto found = keys_.find(request.key);
  if (found == keys_.end() || is_over(now, found->second, request.ttl)) return KeyOpened{};
  return opened(false, found->second);
}

Reply ModelDatabase::on(Time, const KeyAnswer& request) {
  Written reply;
  const auto found = keys_.find(request.key);
  if (found == keys_.end() || found->second.token != request.token || found->second.answer ||
      !lives(found->second.owner)) {
    return reply;
  }
  found->second.answer = request.answer;
  reply.done = true;
  return reply;
}

Reply ModelDatabase::on(Time, const KeyDrop& request) {
  Written reply;
  const auto found = keys_.find(request.key);
  if (found == keys_.end() || found->second.token != request.token || found->second.answer) {
    return reply;
  }
  keys_.erase(found);
  key_times_.erase(request.key);
  reply.done = true;
  return reply;
}

// ---- settings

Reply ModelDatabase::on(Time, const WriteSettings& request) {
  SettingsWritten reply;
  if (request.settings.version == settings_.version) {
    settings_ = {settings_.version + 1, request.settings.text};
    reply.done = true;
  }
  reply.settings = settings_;
  return reply;
}

}  // namespace keelback::cluster
