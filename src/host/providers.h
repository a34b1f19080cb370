// Who provides which functions to Python code, what was asked of them, and how that ends: answered,
// cancelled, or its provider withdrawn. Bookkeeping under its driver's lock. What a provider is to
// hear is booked as ProviderNews and told after the lock.
//
// Invariants (check_invariants()):
//   I1  an open request belongs to one registration, which counts it
//   I2  by_call_ holds every open request once, under its call
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <expected>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/id.h"
#include "host/provider.h"

namespace keelback::host {

// What one provider is to hear of one request. Told once, by any thread, without a lock.
class ProviderNews {
 public:
  // Calls asked() or cancelled(). If two threads tell of one request, cancelled() comes after
  // asked() has returned; a request that is cancelled before its provider was asked, is not asked.
  void tell();
  std::uint64_t id() const { return id_; }  // of the request

 private:
  friend class Providers;
  enum class Told : std::uint8_t { kNothing, kAsked, kCancelled };
  using SharedTold = std::shared_ptr<std::atomic<Told>>;  // by the news of one request
  ProviderNews(std::shared_ptr<Provider> provider, SharedTold told, std::uint64_t id)
      : provider_(std::move(provider)), told_(std::move(told)), id_(id) {}

  std::shared_ptr<Provider> provider_;  // shared with its registration
  SharedTold told_;
  std::uint64_t id_ = 0;
  std::optional<HostRequest> request_;  // nullopt: it is cancelled
};

class Providers {
 public:
  // Who asks: a call on a worker, and the number that the worker gave the request.
  struct Asker {
    WorkerId worker;
    CallId call;
    std::uint64_t request = 0;
    friend bool operator==(const Asker&, const Asker&) = default;
  };
  enum class Refusal : std::uint8_t { kNobodyProvides, kTooMany };
  static constexpr std::size_t kOpenMax = 1 << 16;  // requests of all providers together

  explicit Providers(std::size_t open_max = kOpenMax) : open_max_(open_max) {}

  ProviderId add(const std::vector<std::string>& names, std::shared_ptr<Provider> provider);
  // Appends who waits for its requests, the oldest first. The provider comes back so that it ends
  // outside of the lock; null: it is unknown.
  [[nodiscard]] std::shared_ptr<Provider> remove(ProviderId provider, std::vector<Asker>& askers);

  // Of several providers of the name, the one with the fewest open requests is asked; among
  // equals, the one that was asked the longest ago. Gives the request its id.
  [[nodiscard]] std::expected<ProviderNews, Refusal> ask(const Asker& asker, HostRequest request);
  // The request is answered: who waits for it. nullopt: nobody.
  [[nodiscard]] std::optional<Asker> take(std::uint64_t id);
  // The asker does not wait any more. nullopt: it has no such request.
  [[nodiscard]] std::optional<ProviderNews> cancel(const Asker& asker);
  // None of the call's requests is waited for; the same of a worker's. Appends what the providers
  // are to hear. Who asked, the oldest request first.
  std::vector<Asker> cancel_call(CallId call, std::vector<ProviderNews>& news);
  std::vector<Asker> cancel_worker(WorkerId worker, std::vector<ProviderNews>& news);

  std::size_t open() const { return open_.size(); }
  bool provides(std::string_view name) const { return by_name_.contains(name); }
  void check_invariants() const;  // aborts on a violation

 private:
  struct Registration {
    std::shared_ptr<Provider> provider;  // shared with the news of its requests
    std::set<std::string> names;
    std::size_t open = 0;
    std::uint64_t last_asked = 0;  // its last request
  };
  struct Open {
    Asker asker;
    std::uint64_t provider = 0;
    ProviderNews::SharedTold told;
  };
  using OpenRequests = std::map<std::uint64_t, Open>;
  Open close(OpenRequests::iterator request);
  ProviderNews cancel(OpenRequests::iterator request);

  const std::size_t open_max_;
  std::map<std::uint64_t, Registration> registrations_;
  std::map<std::string, std::vector<std::uint64_t>, std::less<>> by_name_;  // none is empty
  OpenRequests open_;
  std::set<std::pair<CallId, std::uint64_t>> by_call_;  // I2
  std::uint64_t last_provider_ = 0;
  std::uint64_t last_request_ = 0;
};

}  // namespace keelback::host
