// How CHECK and UNEXPECTED write on stderr: as text, or as the log does under log.format = json.
#pragma once

namespace keelback {

void write_faults_as_json(bool json);

}  // namespace keelback
