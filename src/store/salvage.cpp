#include "store/salvage.h"

#include <algorithm>
#include <set>
#include <tuple>
#include <utility>

#include "store/version_1.h"

namespace keelback::store {
namespace {

// In the order of the table (session_rows.cpp).
constexpr std::size_t kCommit = 1, kBirth = 2, kProof = 4, kSession = 14, kState = 20;

std::optional<RowFields> fields_of(const RawRecord& record) {
  RowFields fields;
  std::size_t column = kCommit;
  for (std::int64_t& number : fields.numbers) {
    const auto value = record.integer(column++);
    if (!value) return std::nullopt;
    number = *value;
  }
  for (std::string& text : fields.texts) {
    const auto value = record.blob(column++);
    if (!value) return std::nullopt;
    text = *value;
  }
  return fields;
}

std::string_view name_in(const RawRecord& record, std::size_t column) {
  const std::string_view name = record.blob(column).value_or(std::string_view());
  return name.size() <= 256 ? name : std::string_view();
}

}  // namespace

Salvage::Salvage(const std::string& file, const std::string& log, const Witness& witness)
    : store_(witness.store), pages_(file, log) {
  pages_.each_cell(
      [&](RawPages::Place place, std::string_view local) { look_at(witness, place, local); });
  if (!contradicted_) {
    for (const auto& [session, candidates] : candidates_) save(session, candidates);
  }
  candidates_.clear();
  std::ranges::sort(saved_, [](const Saved& a, const Saved& b) {
    return std::tie(a.record.used_ms, a.record.session) <
           std::tie(b.record.used_ms, b.record.session);
  });
}

void Salvage::look_at(const Witness& witness, RawPages::Place place, std::string_view local) {
  const auto record = RawRecord::parse(local);
  if (!record || record->columns() != kRowColumns) return;
  const std::string session(name_in(*record, kSession));
  if (session.empty()) return;
  const auto word = [&](std::size_t column) {
    return static_cast<std::uint64_t>(record->integer(column).value_or(0));
  };
  Candidate candidate{place, word(kProof), word(kCommit)};
  if (candidate.commit > witness.last_commit) {
    std::string payload;
    if (!witness.may_be_behind || !proven(place, payload)) return;
    if (candidate.commit > witness.last_commit + 1) {
      contradicted_ = true;
      return;
    }
    candidates_[session].push_back(candidate);
    return;
  }
  const auto latest = witness.rows.find(word(kBirth));
  if (latest == witness.rows.end() || latest->second.proof != candidate.proof ||
      latest->second.session != session) {
    return;
  }
  candidates_[session].push_back(candidate);
}

// The newest complete one.
void Salvage::save(const std::string& session, const std::vector<Candidate>& candidates) {
  std::vector<Candidate> best = candidates;
  std::ranges::stable_sort(best, std::less<>(), &Candidate::commit);
  for (auto each = best.rbegin(); each != best.rend(); ++each) {
    std::string payload;
    auto row = proven(each->place, payload);
    if (!row) continue;
    places_[session] = each->place;
    const std::uint64_t bytes = bytes_of(row->record) + row->state_bytes;
    saved_.push_back({std::move(row->record), bytes, row->proof});
    return;
  }
}

// With its state, which is in `payload`.
std::optional<StoredRow> Salvage::proven(RawPages::Place place, std::string& payload) const {
  auto whole = pages_.payload(place);
  if (!whole) return std::nullopt;
  payload = std::move(*whole);
  const auto record = RawRecord::parse(payload);
  if (!record || record->columns() != kRowColumns) return std::nullopt;
  auto fields = fields_of(*record);
  const auto state = record->blob(kState);
  if (!fields || !state) return std::nullopt;
  auto row = proven_row(std::move(*fields), store_);
  if (!row || !proves_state(*row, *state)) return std::nullopt;
  return row;
}

std::optional<Record> Salvage::read(const std::string& session) {
  const auto place = places_.find(session);
  if (place == places_.end()) return std::nullopt;
  std::string payload;
  auto row = proven(place->second, payload);
  if (!row) return std::nullopt;
  const auto record = RawRecord::parse(payload);
  row->record.snapshot.state = std::make_shared<const std::string>(*record->blob(kState));
  return std::move(row->record);
}

std::vector<std::string> Salvage::names(const std::string& file, const std::string& log) {
  std::set<std::string> names;
  RawPages(file, log).each_cell([&](RawPages::Place, std::string_view local) {
    const auto record = RawRecord::parse(local);
    if (!record) return;
    if (record->columns() == kRowColumns) names.emplace(name_in(*record, kSession));
    if (record->columns() == Version1::kColumns) names.emplace(name_in(*record, 0));
  });
  names.erase("");
  return {names.begin(), names.end()};
}

}  // namespace keelback::store
