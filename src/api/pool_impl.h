// What stands behind the public Pool, and the helpers that its parts share.
#pragma once

#include <memory>
#include <mutex>
#include <utility>

#include "api/driver_factory.h"
#include "api/host_calls.h"
#include "api/public_config.h"
#include "base/id.h"
#include "host/driver.h"
#include "keelback/pool.h"

namespace keelback {

struct PoolImpl {
  explicit PoolImpl(api::ConfigStore loaded) : store(std::move(loaded)) {}

  // HostCalls may be answered while the driver ends, and after it.
  ~PoolImpl() {
    if (host_desk) host_desk->close();
  }

  std::mutex configuring;  // guards store: one change at a time, in the order they reach the driver
  api::ConfigStore store;
  std::shared_ptr<api::HostDesk> host_desk;  // shared with the HostCalls
  api::OwnedDriver driver;                   // destroyed first: its callbacks use nothing of ours
};

namespace api {

Result to_result(Outcome&& outcome);
Submission submit(host::Driver& driver, Call call);
CallHandle submit(host::Driver& driver, Call call, std::move_only_function<void(Result)> done);
Stream open_stream(host::Driver& driver, Call call);

}  // namespace api
}  // namespace keelback
