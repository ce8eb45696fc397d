// SPDX-License-Identifier: Apache-2.0
// Opening a device by one of the kernel's two interfaces.
#include <cerrno>
#include <fcntl.h>
#include <unistd.h>
#include <utility>

#include "devices/vfio/device.hpp"
#include "devices/vfio/dma/container.hpp"
#include "devices/vfio/dma/ioas.hpp"
#include "devices/vfio/session.hpp"
#include "devices/vfio/sysfs.hpp"
#include "vmm/base/outside/outside.hpp"

namespace inox::devices::vfio {
namespace {

/// Numbers for groups that sysfs does not show, above the kernel's own.
constexpr unsigned first_unknown_group = 1U << 30;

std::unexpected<Error> failed(Errc code, int error, std::string what, std::string hint = {}) {
    return std::unexpected{Error{code, std::move(what), std::move(hint), {}, -error}};
}

/// Another descriptor for a file that a launcher opened. The launcher's descriptor is not inherited any further.
Result<UniqueFd> duplicate(int fd, const char* what) {
    ::fcntl(fd, F_SETFD, FD_CLOEXEC);
    UniqueFd copy{::fcntl(fd, F_DUPFD_CLOEXEC, 0)};
    if (!copy)
        return fail_errno(Errc::config_value, format("descriptor %d, given as the %s, is not open", fd, what),
                          "let the launcher open it without close-on-exec");
    return copy;
}

/// 16 bytes of a UUID, or nullopt.
std::optional<std::array<std::uint8_t, 16>> parse_uuid(std::string_view text) {
    static constexpr std::string_view shape = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    if (text.size() != shape.size())
        return std::nullopt;
    std::array<std::uint8_t, 16> out{};
    std::size_t digits = 0;
    for (std::size_t i = 0; i < text.size(); ++i) {
        static constexpr std::string_view hex = "0123456789abcdef";
        if (shape[i] == '-' && text[i] == '-')
            continue;
        const auto lower = text[i] >= 'A' && text[i] <= 'F' ? static_cast<char>(text[i] - 'A' + 'a') : text[i];
        const auto value = hex.find(lower);
        if (shape[i] == '-' || value == hex.npos)
            return std::nullopt;
        out.at(digits / 2) = static_cast<std::uint8_t>(out.at(digits / 2) * 16U + value);
        ++digits;
    }
    return out;
}

std::optional<PciAddress> find_address(std::string_view host) {
    if (!host.starts_with("/sys/"))
        return PciAddress::parse(host);
    host = host.substr(0, host.find_last_not_of('/') + 1);
    return PciAddress::parse(host.substr(host.rfind('/') + 1));
}

} // namespace

Result<PciAddress> check_options(const OpenOptions& options) {
    const auto address = find_address(options.host);
    if (!address)
        return fail(Errc::config_value, '"' + options.host + "\" is not an address of a PCI device",
                    "write it as 0000:01:00.0; `inox host` lists the devices");
    if (!options.vf_token.empty() && !parse_uuid(options.vf_token))
        return fail(Errc::config_value, '"' + options.vf_token + "\" is not a UUID",
                    "write 32 hexadecimal digits as 8-4-4-4-12");
    const auto& files = options.files;
    const bool legacy = files.container >= 0 || files.group >= 0;
    if ((legacy && (files.iommufd >= 0 || files.device >= 0 || options.backend == Backend::iommufd)) ||
        (!legacy && (files.iommufd >= 0 || files.device >= 0) && options.backend == Backend::container))
        return fail(Errc::config_value,
                    "the given descriptors belong to both kernel interfaces, or not to those of the backend",
                    "give container and group, or iommufd and device");
    if (options.p2p && (options.backend == Backend::iommufd || files.iommufd >= 0 || files.device >= 0))
        return fail(Errc::config_value, "iommufd cannot map BARs, so that p2p=on is not possible with it",
                    "use backend=auto or backend=container, or leave out p2p=on");
    return *address;
}

class Session::Opener {
public:
    Opener(Session& session, const OpenOptions& options, PciAddress address)
        : session_{session}, kernel_{session.kernel_}, options_{options},
          host_{read_sysfs_device(session.root_, address)}, device_{.options = options, .address = address} {}

    Result<Opened> run() {
        TRY_VOID(check_twice());
        TRY_VOID(check_host());
        if (device_.backend == Backend::iommufd)
            TRY_VOID(open_by_file());
        else
            TRY_VOID(open_by_group());
        return std::move(device_);
    }

private:
    Result<void> check_twice() {
        const auto [entry, fresh] = session_.devices_.try_emplace(device_.address, options_.id);
        if (fresh) {
            device_.registered =
                Registration{[&session = session_, address = device_.address] { session.devices_.erase(address); }};
            return {};
        }
        return fail(Errc::in_use, device_.address.text() + " is assigned already, as " + entry->second,
                    "a device can be assigned once; remove one of the two");
    }

    Result<void> check_host() {
        const auto& files = options_.files;
        // A launcher that opened everything may have started us where there is no sysfs.
        const bool all_given = files.group >= 0 ? files.container >= 0 : files.device >= 0 && files.iommufd >= 0;
        if (host_.exists || !all_given)
            if (auto problems = assignment_problems(session_.root_, host_, options_); !problems.empty())
                return std::unexpected{std::move(problems.front())};
        device_.backend = choose_backend(session_.root_, host_, options_);
        if (host_.group)
            device_.group = *host_.group;
        else
            device_.group = first_unknown_group + static_cast<unsigned>(std::max(files.group, files.device));
        if (const auto space = session_.spaces_.find(device_.group); space != session_.spaces_.end()) {
            device_.dma = space->second.space.lock();
            if (device_.dma && options_.backend == Backend::automatic && !files.any())
                device_.backend = space->second.backend; // like the group's first device
            if (device_.dma && space->second.backend != device_.backend)
                return fail(Errc::config_value,
                            device_.name() + " is in " + device_.dma->name() +
                                ", which is opened by the other "
                                "kernel interface",
                            "give all devices of a group the same backend");
        }
        return {};
    }

    [[nodiscard]] std::string space_name() const { return "IOMMU group " + std::to_string(device_.group); }

    Result<UniqueFd> open(const std::string& path) {
        const int fd = kernel_.open(session_.root_ + path);
        switch (-fd) {
        case EACCES:
        case EPERM:
            return failed(Errc::vfio_denied, fd, "opening " + path, "sudo chown $USER " + path);
        case EBUSY:
            return failed(Errc::in_use, fd, path + " of " + device_.name() + " is in use by another process",
                          "sudo fuser -v " + path + " tells which");
        case ENOENT:
        case ENODEV:
        case ENXIO:
            return failed(Errc::vfio_missing, fd, "opening " + path, "sudo modprobe vfio-pci");
        case outside::refused:
        case outside::gone:
        case outside::unanswered:
            errno = -fd;
            return fail_errno(Errc::host_error, "opening " + path + " for " + device_.name());
        default:
            break;
        }
        if (fd < 0)
            return failed(Errc::host_error, fd, "opening " + path);
        return UniqueFd{fd};
    }
    Result<UniqueFd> given_or_open(int given, const char* what, const std::string& path) {
        return given >= 0 ? duplicate(given, what) : open(path);
    }
    [[nodiscard]] Result<Registration> tell_kvm(int fd) const {
        return session_.hooks_.add_to_kvm ? session_.hooks_.add_to_kvm(fd) : Result<Registration>{};
    }

    // Group and container
    Result<void> open_by_group() {
        if (!device_.dma) {
            Container::Files files;
            files.container = TRY(given_or_open(options_.files.container, "container", "/dev/vfio/vfio"));
            files.group =
                TRY(given_or_open(options_.files.group, "group", "/dev/vfio/" + std::to_string(device_.group)));
            auto kvm = TRY(tell_kvm(files.group.get()));
            device_.dma = session_.add_space(device_.group,
                                             TRY(Container::create(kernel_, session_.resources_, space_name(),
                                                                   std::move(files), host_.reserved, std::move(kvm))),
                                             Backend::container);
        }
        auto name = device_.address.text();
        if (!options_.vf_token.empty())
            name += " vf_token=" + options_.vf_token;
        const int fd = kernel_.device_fd(static_cast<Container&>(*device_.dma).group(), name);
        if (fd < 0)
            return open_failed(fd);
        device_.fd.reset(fd);
        return {};
    }

    // Device file and iommufd
    Result<std::shared_ptr<UniqueFd>> iommufd() {
        if (auto open_already = session_.iommufd_.lock(); open_already)
            return open_already;
        auto file = std::make_shared<UniqueFd>(TRY(given_or_open(options_.files.iommufd, "iommufd", "/dev/iommu")));
        session_.iommufd_ = file;
        return file;
    }

    Result<void> open_by_file() {
        if (options_.files.device >= 0) {
            device_.fd = TRY(duplicate(options_.files.device, "device"));
            ::close(options_.files.device); // only our own is left: while it is open, the device is in use
        } else {
            device_.fd = TRY(open(host_.device_file));
        }
        const auto iommu = TRY(iommufd());
        device_.kvm = TRY(tell_kvm(device_.fd.get()));
        TRY_VOID(bind(iommu->get()));
        if (!device_.dma)
            device_.dma = session_.add_space(
                device_.group, TRY(Ioas::create(kernel_, session_.resources_, space_name(), iommu)), Backend::iommufd);
        auto& space = static_cast<Ioas&>(*device_.dma);
        TRY_VOID(space.attach(device_.fd.get(), host_.reserved));
        device_.attached = Registration{[&space, fd = device_.fd.get()] { space.detach(fd); }};
        return {};
    }

    Result<void> bind(int iommu) {
        uapi::BindIommufd bind{uapi::bind_size_without_token, 0, iommu, 0, 0};
        const auto token = parse_uuid(options_.vf_token);
        if (token) {
            bind.argsz = sizeof bind;
            bind.flags = uapi::BindIommufd::flag_token;
            bind.token_uuid_ptr = reinterpret_cast<std::uintptr_t>(token->data()); // NOLINT
        }
        const int error = kernel_.bind_iommufd(device_.fd.get(), bind);
        if (error == -EINVAL && token)
            return failed(Errc::unsupported, error,
                          device_.name() + " has no VF token, or this host's kernel takes none with iommufd",
                          std::string{leave_token} + "; else use backend=container");
        if (error < 0) // EINVAL also means that another process has bound the device file
            return open_failed(error == -EINVAL ? -EBUSY : error);
        device_.iommufd_id = bind.out_devid;
        return {};
    }

    Result<void> open_failed(int error) {
        const auto what = "opening " + device_.name();
        switch (-error) {
        case EBUSY:
            return failed(Errc::in_use, error, device_.name() + " is in use by another process",
                          "sudo fuser -v /dev/vfio/* /dev/vfio/devices/* tells which");
        case EACCES:
            return failed(Errc::vfio_denied, error, what,
                          options_.vf_token.empty()
                              ? "a virtual function needs the vf_token of the process that uses its physical function"
                              : "this is not the vf_token of the process that uses the physical function");
        case EPERM:
            return failed(Errc::iommu_unsafe, error,
                          "the host does not isolate interrupts: " + device_.name() + " could inject any",
                          "turn on interrupt remapping in the firmware; or, if you trust the guest: echo 1 | sudo tee "
                          "/sys/module/iommufd/parameters/allow_unsafe_interrupts");
        case ENODEV:
            return failed(Errc::not_found, error, what, "the device is gone, or not bound to vfio-pci");
        case EINVAL:
            if (!options_.vf_token.empty())
                return failed(Errc::config_value, error, device_.name() + " has no VF token", leave_token);
            return failed(Errc::host_error, error, what);
        default:
            return failed(Errc::host_error, error, what);
        }
    }

    static constexpr const char* leave_token =
        "leave out vf_token unless this is a virtual function whose physical one is bound to vfio-pci, or that one";

    Session& session_;
    Kernel& kernel_;
    const OpenOptions& options_;
    SysfsDevice host_;
    Opened device_;
};

Result<Opened> Session::open(const OpenOptions& options) {
    return Opener{*this, options, TRY(check_options(options))}.run();
}

} // namespace inox::devices::vfio
