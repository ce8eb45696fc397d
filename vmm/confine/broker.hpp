// SPDX-License-Identifier: Apache-2.0
// A small process that opens for this one what confinement keeps this one from opening, as far as it is allowed. It
// also starts and ends the programs that serve this process. It is forked before there are threads and before the
// guest has memory, knows nothing of the guest, and ends when this process does.
#pragma once

#include <memory>
#include <span>

#include "vmm/base/outside/outside.hpp"
#include "vmm/confine/allow_list.hpp"

namespace inox::confine {

namespace wire {
enum class Op : std::uint32_t;
}

/// Any thread, once it has started. Each request has a socket of its own for its answer, so nobody waits for the
/// request of another thread, unless the broker serves that one.
class Broker final : public outside::Door {
public:
    /// Forks. While this process has one thread. host_error.
    static Result<std::unique_ptr<Broker>> start();
    /// The process ends, and is awaited for a moment.
    ~Broker() override;

    /// Adds to what may be opened; not once the list is sealed. host_error.
    Result<void> allow(std::span<const Allowed> entries);
    Result<void> allow(const std::string& path, Purpose purpose) {
        const Allowed one{path, purpose};
        return allow({&one, 1});
    }
    /// Before the guest runs: from here on, the list stays as it is.
    Result<void> seal();
    [[nodiscard]] pid_t pid() const { return pid_; }

    UniqueFd open(const std::string& path, int flags, unsigned mode, outside::Wait wait) override;
    UniqueFd open_unnamed() override;
    UniqueFd open_tap(const std::string& name, int flags) override;
    bool bind(int socket, const std::string& path, unsigned mode) override;
    bool connect(int socket, const std::string& path) override;
    bool can_bind(int type, std::string_view address) override;
    bool remove(const std::string& path) override;
    bool replace(const std::string& path, std::string_view text) override;
    std::optional<outside::Helper> start_passt(const std::vector<std::string>& words, int served, int errors) override;
    std::optional<outside::Helper> start_share(const std::string& folder, bool read_only) override;
    std::optional<int> status(int helper) override;
    void end(int helper) override;

private:
    struct Reply {
        int error{};
        int number{};
        UniqueFd first{};
        UniqueFd second{};
    };
    static constexpr int usual_patience_ms = 5000;
    Broker(UniqueFd socket, pid_t pid) : socket_{std::move(socket)}, pid_{pid} {}
    [[nodiscard]] Reply ask(wire::Op op, int flags, unsigned mode, std::string_view text,
                            std::initializer_list<int> fds = {}, int patience_ms = usual_patience_ms);

    UniqueFd socket_;
    pid_t pid_;
};

} // namespace inox::confine
