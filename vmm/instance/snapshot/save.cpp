// SPDX-License-Identifier: Apache-2.0
#include "vmm/instance/snapshot/save.hpp"

#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <system_error>
#include <unistd.h>
#include <utility>

#include "vmm/base/outside/outside.hpp"
#include "vmm/base/thread_failure.hpp"
#include "vmm/base/thread_kind.hpp"
#include "vmm/config/config_state.hpp"
#include "vmm/snapshot/state_file.hpp"

namespace inox {
namespace {

using namespace std::chrono_literals;

constexpr auto between_reports = 250ms;
constexpr const char* partial = ".partial";

std::unexpected<Error> unwritable(const std::string& path) {
    return fail_errno(Errc::output_unwritable, "cannot write " + path,
                      "name a folder that you may write to; the running inox may write beneath what its --allow names");
}

Result<UniqueFd> open_partial(const std::string& path) {
    UniqueFd file = outside::open(path + partial, O_WRONLY | O_CREAT | O_TRUNC, 0600, outside::Wait::long_);
    if (!file)
        return unwritable(path);
    return file;
}

Result<void> give_name(const std::string& path) {
    return outside::rename(path + partial, path) ? Result<void>{} : unwritable(path);
}

} // namespace

SnapshotSave::SnapshotSave(EventLoop& loop, Machine& machine, Plan plan, Done done)
    : loop_{loop}, machine_{machine}, plan_{std::move(plan)}, done_{std::move(done)}, rest_{loop, machine} {}

Result<std::unique_ptr<SnapshotSave>> SnapshotSave::start(EventLoop& loop, Machine& machine, Plan plan, Done done) {
    TRY_VOID(machine.saveable());
    std::unique_ptr<SnapshotSave> save{new SnapshotSave{loop, machine, std::move(plan), std::move(done)}};
    save->rest_.begin(save->stop_, [raw = save.get()](Result<void> rest) { raw->on_rest(std::move(rest)); });
    return save;
}

void SnapshotSave::on_rest(Result<void> rest) {
    auto collected = stop_ ? fail(Errc::wrong_state, "the snapshot was given up") : rest ? collect() : std::move(rest);
    // Never before start() has returned
    if (!collected)
        timer_ = loop_.after(0ms, [this, collected = std::move(collected)]() mutable { finish(std::move(collected)); });
}

Result<void> SnapshotSave::collect() {
    SnapshotOrigin origin{.version = INOX_VERSION};
    origin.saved_at = static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch()).count());
    parts_.save("origin", [&](State& state) { origin.state(state); });
    parts_.save("config", [&](State& state) { config_state(state, plan_.config); });
    parts_.save("mmds", [&](State& state) { mmds_state(state, plan_.mmds); });
    TRY_VOID(machine_.save(parts_));
    if (machine_.memory().dirty().tracked())
        TRY_VOID(machine_.collect_writes()); // they are lost only when the snapshot has them
    id_ = snapshot::new_memory_id();
    try {
        writer_ = std::thread{[this, alive = std::weak_ptr{alive_}] {
            enter_thread(ThreadKind::snapshot, "snapshot");
            auto written = write();
            loop_.post([this, alive, written = std::move(written)]() mutable {
                if (alive.lock())
                    finish(std::move(written));
            });
        }};
    } catch (const std::system_error& error) {
        return fail_thread("the thread that writes a snapshot", error);
    }
    report_progress();
    return {};
}

void SnapshotSave::report_progress() {
    if (!plan_.progress)
        return;
    timer_ = loop_.after(between_reports, [this] {
        plan_.progress(looked_at_.load(std::memory_order_relaxed), machine_.memory().size());
        report_progress();
    });
}

Result<void> SnapshotSave::write() {
    const auto& files = plan_.files;
    if (!files.folder.empty() && !outside::make_folder(files.folder) && errno != EEXIST)
        return unwritable(files.folder);
    if (plan_.existing == Existing::refused && outside::open(files.state, O_RDONLY | O_NONBLOCK))
        return fail(Errc::in_use, "a snapshot is in " + files.folder + " already", "remove it, or name another folder");
    auto written = write_files();
    if (!written) {
        if (!over_)
            outside::remove(files.memory + partial);
        outside::remove(files.state + partial);
    }
    return written;
}

/// A file that others merged a base into, or one of its own.
Result<UniqueFd> SnapshotSave::open_memory() {
    const auto& path = plan_.files.memory;
    if (plan_.pages == snapshot::Pages::all || plan_.existing == Existing::refused)
        return open_partial(path);
    UniqueFd file = outside::open(path, O_RDWR | O_NONBLOCK, 0600, outside::Wait::long_);
    if (!file && errno != ENOENT)
        return unwritable(path);
    if (!file)
        return open_partial(path);
    struct stat status {};
    if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode))
        return fail(Errc::output_unwritable, path + " is not a regular file");
    struct flock lock {};
    lock.l_type = F_WRLCK;
    struct stat image {};
    const int mapped = machine_.memory().image_fd();
    const bool own =
        mapped >= 0 && ::fstat(mapped, &image) == 0 && image.st_dev == status.st_dev && image.st_ino == status.st_ino;
    if (own || (::fcntl(file.get(), F_OFD_SETLK, &lock) != 0 && (errno == EAGAIN || errno == EACCES))) // NOLINT
        return fail(Errc::in_use, "a guest runs from this file, and would see it change: " + path,
                    "name another file, or a copy of it");
    const auto size = machine_.memory().size();
    if (static_cast<std::uint64_t>(status.st_size) != size && ::ftruncate(file.get(), 0) != 0)
        return unwritable(path);
    over_ = true;
    if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0)
        return unwritable(path);
    TRY_VOID(snapshot::write_id(file.get(), id_)); // the state that is there does not fit any more
    return file;
}

Result<void> SnapshotSave::write_files() {
    const auto& files = plan_.files;
    const auto memory = TRY(open_memory());
    contents_ = TRY(snapshot::write_memory(memory.get(), machine_.memory(), snapshot::page_map(), id_, plan_.pages,
                                           stop_, looked_at_));
    contents_.base = plan_.base;
    if (plan_.existing == Existing::replaced && contents_.diff)
        contents_ = {.size = contents_.size,
                     .stored = contents_.stored}; // it is restored once the caller has merged it
    parts_.save("memory", [&](State& state) { memory_state(state, contents_, id_); });
    const auto state = TRY(open_partial(files.state));
    TRY_VOID(write_all(state.get(), snapshot::encode(parts_.value())));
    if (::fsync(memory.get()) != 0)
        return unwritable(files.memory);
    if (::fsync(state.get()) != 0)
        return unwritable(files.state);
    if (stop_)
        return fail(Errc::wrong_state, "the snapshot was given up");
    if (!over_)
        TRY_VOID(give_name(files.memory));
    return give_name(files.state);
}

void SnapshotSave::let_go() {
    timer_.reset();
    rest_.end();
}

void SnapshotSave::finish(Result<void> written) {
    if (writer_.joinable())
        writer_.join();
    if (written)
        machine_.memory().dirty().clear(); // before anything runs
    let_go();
    auto done = std::exchange(done_, nullptr);
    if (!written)
        return done(std::unexpected<Error>{std::move(written).error()}); // may destroy this
    done(Written{contents_.size, contents_.stored, id_});
}

SnapshotSave::~SnapshotSave() {
    stop_ = true;
    if (writer_.joinable())
        writer_.join();
    if (done_)
        let_go();
}

} // namespace inox
