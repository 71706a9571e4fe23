"""Singer tap for Microsoft Defender for Endpoint Live Response results."""

__version__ = "0.1.0"
