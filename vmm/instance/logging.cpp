// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/logging.hpp"

#include <fcntl.h>
#include <unistd.h>

#include "vmm/base/os.hpp"
#include "vmm/machine/preparation.hpp"

namespace inox {

Result<void> use_log(const LogConfig& log, const LogShape& shape, const std::string& id) {
    // One descriptor for the whole run: another file is put in its place, so that no thread writes to a closed one.
    static int own = -1;
    if (!log.path.empty()) {
        auto file = TRY(placed(open_output(log.path), "/logger/log_path"));
        if (own < 0)
            own = file.release();
        else if (::dup3(file.get(), own, O_CLOEXEC) < 0)
            return fail_errno(Errc::host_error, "cannot change the log's file");
        log::set_sink(own, log.path);
    }
    log::set_level(log.level.value_or(shape.level));
    log::set_style({shape.prefix, id, log.show_level.value_or(false), log.show_origin.value_or(false), log.module});
    return {};
}

} // namespace inox
