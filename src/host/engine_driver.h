// The driver that an engine and its crew make together: the callers' side and the operators' side.
// A blocking caller writes its call, reads its answer, and on the way dispatches the next call to
// the worker it has freed.
#pragma once

#include <expected>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "host/crew.h"
#include "host/engine.h"
#include "host/session_port.h"

namespace keelback::host {

class EngineDriver final : public Driver, public SessionPort {
 public:
  using MakeCrew = std::move_only_function<std::unique_ptr<Crew>(Engine& engine)>;

  EngineDriver(EngineConfig config, MakeCrew make_crew);
  // Not on the loop thread. Kills what is left; keeps the loop busy for as long as the crew's
  // leave_loop() does.
  ~EngineDriver() override;
  [[nodiscard]] std::expected<void, StartError> start();  // once, before anything else

  Outcome call(Call call) override;
  CallId submit(Call call, OnOutcome done) override;
  CallId stream(Call call, OnItem item, OnOutcome done) override;
  void grant(CallId call, std::uint32_t items) override;
  bool cancel(CallId call) override;
  std::optional<std::string> dump(CallId call) override;
  PoolInfo info() override;
  std::vector<WorkerInfo> workers() override;
  SessionList sessions(std::string_view after, std::size_t limit) override;
  std::shared_ptr<const Application> application() override { return engine_.application(); }
  std::vector<QuarantinedRequest> quarantine() override;
  bool apply(const core::Event& event) override;
  void configure(const Settings& settings) override { engine_.configure(settings); }
  void reload(std::move_only_function<void(std::string error)> done) override;
  void drain(Duration limit, std::move_only_function<void()> done) override;
  ProviderId provide(std::vector<std::string> names, std::shared_ptr<Provider> provider) override {
    return engine_.calls_out().provide(names, std::move(provider));
  }
  void withdraw(ProviderId provider) override { engine_.calls_out().withdraw(provider); }
  bool answer(std::uint64_t request, HostReply reply) override {
    return engine_.calls_out().answer(request, std::move(reply));
  }
  Time now() const override { return Engine::now(); }

  SessionPort* session_port() override { return this; }
  void route_nested(std::shared_ptr<Provider> provider) override {
    engine_.calls_out().route_sessions(std::move(provider));
  }
  void watch(OnGone gone) override { engine_.watch_sessions(std::move(gone)); }
  bool adopt(store::Record record) override;
  void expect(const std::string& session, std::uint64_t birth) override;
  bool stop_expecting(const std::string& session) override;
  void take(const std::string& session, std::uint64_t birth, const std::string& detail,
            bool may_be_kept) override;

 private:
  void prepare(CallRecord& record) EXCLUDES(host_state);
  void prepare_attachments(CallRecord& record) EXCLUDES(host_state);
  CallId enter(std::unique_ptr<CallRecord> record) EXCLUDES(host_state);
  void await(CallRecord& record);

  Engine engine_;
  std::unique_ptr<Crew> crew_;
  bool started_ = false;
};

}  // namespace keelback::host
