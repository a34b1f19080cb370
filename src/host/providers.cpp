#include "host/providers.h"

#include <algorithm>

#include "base/check.h"

namespace keelback::host {

void ProviderNews::tell() {
  if (request_) {
    if (told_->load() == Told::kCancelled) return;
    provider_->asked(std::move(*request_));
    // It was cancelled meanwhile: whoever found that it had not been asked has left this to us.
    if (told_->exchange(Told::kAsked) == Told::kCancelled) provider_->cancelled(id_);
  } else if (told_->exchange(Told::kCancelled) == Told::kAsked) {
    provider_->cancelled(id_);
  }
}

ProviderId Providers::add(const std::vector<std::string>& names,
                          std::shared_ptr<Provider> provider) {
  const std::uint64_t id = ++last_provider_;
  Registration& registration = registrations_[id];
  registration.provider = std::move(provider);
  registration.names = {names.begin(), names.end()};
  for (const std::string& name : registration.names) by_name_[name].push_back(id);
  return {id};
}

std::shared_ptr<Provider> Providers::remove(ProviderId provider, std::vector<Asker>& askers) {
  const auto found = registrations_.find(provider.value);
  if (found == registrations_.end()) return nullptr;
  for (auto each = open_.begin(); each != open_.end();) {
    const auto request = each++;
    if (request->second.provider == provider.value) askers.push_back(close(request).asker);
  }
  for (const std::string& name : found->second.names) {
    const auto of_name = by_name_.find(name);
    std::erase(of_name->second, provider.value);
    if (of_name->second.empty()) by_name_.erase(of_name);
  }
  std::shared_ptr<Provider> removed = std::move(found->second.provider);
  registrations_.erase(found);
  return removed;
}

std::expected<ProviderNews, Providers::Refusal> Providers::ask(const Asker& asker,
                                                               HostRequest request) {
  const auto of_name = by_name_.find(request.name);
  if (of_name == by_name_.end()) return std::unexpected(Refusal::kNobodyProvides);
  if (open_.size() >= open_max_) return std::unexpected(Refusal::kTooMany);
  const std::uint64_t chosen =
      *std::ranges::min_element(of_name->second, {}, [this](std::uint64_t id) {
        const Registration& each = registrations_.at(id);
        return std::pair(each.open, each.last_asked);
      });
  Registration& registration = registrations_.at(chosen);
  const std::uint64_t id = ++last_request_;
  ++registration.open;
  registration.last_asked = id;
  auto told = std::make_shared<std::atomic<ProviderNews::Told>>(ProviderNews::Told::kNothing);
  ProviderNews news(registration.provider, told, id);
  open_.emplace(id, Open{asker, chosen, std::move(told)});
  by_call_.emplace(asker.call, id);
  request.id = id;
  news.request_ = std::move(request);
  return news;
}

std::optional<Providers::Asker> Providers::take(std::uint64_t id) {
  const auto found = open_.find(id);
  if (found == open_.end()) return std::nullopt;
  return close(found).asker;
}

std::optional<ProviderNews> Providers::cancel(const Asker& asker) {
  for (auto each = by_call_.lower_bound({asker.call, 0});
       each != by_call_.end() && each->first == asker.call; ++each) {
    const auto request = open_.find(each->second);
    if (request->second.asker == asker) return cancel(request);
  }
  return std::nullopt;
}

std::vector<Providers::Asker> Providers::cancel_call(CallId call, std::vector<ProviderNews>& news) {
  std::vector<Asker> askers;
  for (;;) {
    const auto next = by_call_.lower_bound({call, 0});
    if (next == by_call_.end() || next->first != call) return askers;
    const auto request = open_.find(next->second);
    askers.push_back(request->second.asker);
    news.push_back(cancel(request));
  }
}

std::vector<Providers::Asker> Providers::cancel_worker(WorkerId worker,
                                                       std::vector<ProviderNews>& news) {
  std::vector<Asker> askers;
  for (auto each = open_.begin(); each != open_.end();) {
    const auto request = each++;
    if (request->second.asker.worker != worker) continue;
    askers.push_back(request->second.asker);
    news.push_back(cancel(request));
  }
  return askers;
}

Providers::Open Providers::close(OpenRequests::iterator request) {
  Open closed = std::move(request->second);
  --registrations_.at(closed.provider).open;
  by_call_.erase({closed.asker.call, request->first});
  open_.erase(request);
  return closed;
}

ProviderNews Providers::cancel(OpenRequests::iterator request) {
  const std::uint64_t id = request->first;
  Open closed = close(request);
  return {registrations_.at(closed.provider).provider, std::move(closed.told), id};
}

void Providers::check_invariants() const {
  std::map<std::uint64_t, std::size_t> counted;
  for (const auto& [id, request] : open_) {
    ++counted[request.provider];
    CHECK(by_call_.contains({request.asker.call, id}));
  }
  CHECK(by_call_.size() == open_.size());
  CHECK(open_.size() <= open_max_);
  for (const auto& [id, registration] : registrations_) CHECK(registration.open == counted[id]);
  for (const auto& [name, ids] : by_name_) {
    CHECK(!ids.empty());
    for (const std::uint64_t id : ids) CHECK(registrations_.at(id).names.contains(name));
  }
}

}  // namespace keelback::host
