// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/core_dump.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "vmm/base/open_hint.hpp"
#include "vmm/base/outside/outside.hpp"
#include "vmm/base/thread_failure.hpp"
#include "vmm/base/thread_kind.hpp"
#include "vmm/boot/vmcoreinfo.hpp"

namespace inox {
namespace {

std::unexpected<Error> no_regular_file(const std::string& path) {
    return fail(Errc::output_unwritable, path + " is not a regular file", "a dump has holes: name a regular file");
}

Result<UniqueFd> open_dump(const std::string& path, CoreDump::File how) {
    const int flags = O_WRONLY | O_CREAT | O_NONBLOCK | (how == CoreDump::File::made ? O_EXCL : 0);
    auto file = open_file(path, flags, Errc::output_unwritable, 0600);
    if (!file && file.error().sys_errno == EEXIST)
        return fail(Errc::in_use, "a file is at " + path + " already", "remove it, or name another one");
    if (!file) {
        file.error().hint =
            open_hint(file.error().sys_errno, "name a file in a folder that exists and that you may write to");
        return file;
    }
    struct stat status {};
    if (::fstat(file->get(), &status) != 0 || !S_ISREG(status.st_mode))
        return no_regular_file(path);
    if (::ftruncate(file->get(), 0) != 0)
        return fail_errno(Errc::output_unwritable, "cannot empty " + path);
    return file;
}

} // namespace

Result<void> CoreDump::check(const std::string& path) {
    struct stat status {};
    if (::stat(path.c_str(), &status) == 0 && !S_ISREG(status.st_mode))
        return no_regular_file(path);
    return check_output(path);
}

Result<std::unique_ptr<CoreDump>> CoreDump::start(EventLoop& loop, Machine& machine, const std::string& path, File how,
                                                  Done done) {
    std::unique_ptr<CoreDump> dump{new CoreDump{machine, path, TRY(EventFd::create()), std::move(done)}};
    machine.hold(Machine::Holder::dump);
    for (unsigned id = 0; id < machine.vcpu_count(); ++id)
        dump->cpus_.push_back({TRY(machine.vcpu(id).regs()), TRY(machine.vcpu(id).sregs())});
    try {
        dump->writer_ = std::thread{[&loop, how, self = dump.get(), alive = std::weak_ptr{dump->alive_}] {
            enter_thread(ThreadKind::start, "dump");
            auto written = self->open(how);
            enter_thread(ThreadKind::dump, "dump"); // which opens nothing
            if (written)
                written = self->write();
            loop.post([self, alive, written = std::move(written)] {
                if (alive.lock())
                    self->finish(written);
            });
        }};
    } catch (const std::system_error& error) {
        return fail_thread("the thread that writes a dump", error);
    }
    return dump;
}

Result<void> CoreDump::open(File how) {
    const outside::Until until{stop_opening_.fd()};
    file_ = TRY(open_dump(path_, how));
    return {};
}

void CoreDump::remove_file() const {
    if (file_)
        outside::remove(path_);
}

Result<void> CoreDump::write() {
    const boot::Vmcore core{machine_.memory(), cpus_, boot::find_vmcoreinfo(machine_.memory()).value_or("")};
    size_ = core.size();
    return core.write(file_.get(), stop_);
}

void CoreDump::finish(const Result<void>& written) {
    writer_.join();
    if (!written)
        remove_file();
    machine_.release(Machine::Holder::dump);
    auto done = std::exchange(done_, nullptr);
    if (written)
        return done(size_); // may destroy this
    auto error = written.error();
    if (file_)
        error.what += ": " + path_;
    done(std::unexpected<Error>{std::move(error)});
}

CoreDump::~CoreDump() {
    if (!done_)
        return;
    stop_ = true;
    stop_opening_.signal();
    if (writer_.joinable())
        writer_.join();
    remove_file();
    machine_.release(Machine::Holder::dump);
}

} // namespace inox
