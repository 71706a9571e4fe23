"""What Get-BitLockerState prints: laptops are encrypted but for a few, servers often are not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .documents import document, encoded

if TYPE_CHECKING:
    from random import Random

    from .devices import Device

_MISSING = (
    "BitLocker could not be asked: The term 'Get-BitLockerVolume' is not recognized as the name of a cmdlet, function, "
    "script file, or operable program. Check the spelling of the name, or if a path was included, verify that the path "
    "is correct and try again."
)


def print_document(device: Device, _at: int, rng: Random) -> str:
    traits = device.traits("encryption")
    if device.platform == "server" and traits.random() < 0.3:
        return document(device, "volumes", [], [_MISSING])
    drives = ["C:"] if device.platform == "client" and traits.random() < 0.7 else ["C:", "D:", "E:"]
    return document(device, "volumes", [_volume(device, drive, traits, rng) for drive in drives])


def _volume(device: Device, drive: str, traits: Random, rng: Random) -> str:
    is_system = drive == "C:"
    on = traits.random() < (0.93 if is_system and device.platform == "client" else 0.4)
    decrypted = traits.random() < 0.6
    capacity = round(traits.choice((237.3, 475.8, 953.1)) + traits.random(), 2)
    protectors = traits.choice(("RecoveryPassword, Tpm", "RecoveryPassword, Tpm", "RecoveryPassword, TpmPin", "Tpm"))
    if on:
        status, method, percentage = "FullyEncrypted", "XtsAes256", 100.0
    elif decrypted:
        status, method, percentage = "FullyDecrypted", "None", 0.0
    else:
        status, method, percentage = "EncryptionInProgress", "XtsAes256", round(rng.uniform(5, 95), 2)
    return encoded(
        device,
        {
            "mount_point": drive,
            "volume_type": "OperatingSystem" if is_system else "Data",
            "protection_status": "On" if on else "Off",
            "volume_status": status,
            "lock_status": "Unlocked",
            "encryption_method": method,
            "encryption_percentage": percentage,
            "key_protectors": (protectors if is_system else "ExternalKey, RecoveryPassword") if on else None,
            "capacity_gb": capacity,
        },
    )
