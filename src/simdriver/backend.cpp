#include "simdriver/backend.h"

#include <memory>
#include <utility>

#include "api/driver_factory.h"
#include "simdriver/sim_driver.h"

namespace keelback::simdriver {

bool register_backend() {
  api::register_backend(Backend::kSim,
                        [](host::EventLoop& loop, const api::DriverOptions& options) {
                          sim::Simulation::Options made;
                          made.settings = options.settings;
                          made.seed = options.seed;
                          made.model.exposed = options.expose;
                          return std::make_unique<SimDriver>(loop, std::move(made));
                        });
  return true;
}

}  // namespace keelback::simdriver
